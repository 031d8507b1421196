/** What the running kernel was built with, found without changing it. */

import { gunzipSync } from "node:zlib";
import { type HostFiles, number, text } from "./host-files.ts";

export type Feature =
  /** In the kernel now. */
  | "present"
  /** A module that can be loaded. */
  | "loadable"
  | "absent"
  /** The kernel's configuration is nowhere to be read. */
  | "unknown";

export interface KernelInfo {
  release: string;
  userfaultfd: Feature;
  /** Users without privilege may handle faults of the kernel's accesses too. */
  userfaultfdForAll: boolean;
  ioUring: Feature | "disabled" | "restricted";
}

export class Kernel {
  readonly release: string;
  readonly #files: HostFiles;
  readonly #config: string | undefined;
  readonly #modules: string | undefined;

  constructor(files: HostFiles) {
    this.#files = files;
    this.release = text(files, "/proc/sys/kernel/osrelease") ?? "unknown";
    const ofModules = (name: string) =>
      text(files, `/lib/modules/${this.release}/${name}`) ?? text(files, `/usr/lib/modules/${this.release}/${name}`);
    const compressed = files.bytes("/proc/config.gz");
    this.#config = compressed
      ? gunzipSync(compressed).toString()
      : (text(files, `/boot/config-${this.release}`) ?? ofModules("config"));
    this.#modules = ofModules("modules.dep");
  }

  /** A feature by its module's name and its option in the kernel's configuration. */
  feature(module: string, option: string): Feature {
    if (this.#files.exists(`/sys/module/${module}`)) return "present";
    const built = this.option(option);
    if (built === "y") return "present";
    if (this.#modules !== undefined && new RegExp(`/${module}\\.ko[^:]*:`, "m").test(this.#modules)) return "loadable";
    // Configured as a module, but its file is not on this host.
    return this.#config === undefined && this.#modules === undefined ? "unknown" : "absent";
  }

  /** Whether an option is built into the kernel; undefined where its configuration cannot be read. */
  builtIn(option: string): boolean | undefined {
    return this.#config === undefined ? undefined : this.option(option) === "y";
  }

  /** y, m or undefined. */
  option(name: string): string | undefined {
    return this.#config && new RegExp(`^CONFIG_${name}=(.*)$`, "m").exec(this.#config)?.[1];
  }

  info(): KernelInfo {
    const forAll = number(this.#files, "/proc/sys/vm/unprivileged_userfaultfd");
    const ioUring = number(this.#files, "/proc/sys/kernel/io_uring_disabled");
    const byOption = (option: string): Feature => {
      const built = this.builtIn(option);
      return built === undefined ? "unknown" : built ? "present" : "absent";
    };
    return {
      release: this.release,
      // The file is there exactly where the kernel has it.
      userfaultfd: forAll === undefined ? byOption("USERFAULTFD") : "present",
      userfaultfdForAll: forAll === 1,
      ioUring: ioUring === undefined ? byOption("IO_URING") : (IO_URING[ioUring] ?? "disabled"),
    };
  }
}

/** kernel.io_uring_disabled (Documentation/admin-guide/sysctl/kernel.rst). */
const IO_URING = ["present", "restricted", "disabled"] as const;
