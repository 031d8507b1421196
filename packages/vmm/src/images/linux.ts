/** What every image is made of: Debian's cloud kernel with its modules, and busybox. */

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { VmmError } from "../errors.ts";
import { applets } from "./busybox.ts";
import { cpio, type Entry } from "./cpio.ts";
import { type DebianArchive, downloadPackages, unpackFiles } from "./debian-packages.ts";
import { collectModules, isModule, type KernelModule, moduleIndex } from "./kernel-modules.ts";

const KERNEL = "linux-image-cloud-amd64";

/** The scripts and units that go into guests. */
export const GUEST = join(import.meta.dirname, "../../guest");

export interface LinuxParts {
  readonly kernel: Buffer;
  /** As the kernel's own `uname -r`. */
  readonly release: string;
  readonly busybox: Buffer;
  /** Paths of the files, all that the package has. */
  readonly modules: readonly string[];
  readonly made: readonly string[];
}

/** Fetches both packages into an empty directory, and unpacks there what images need. */
export async function fetchLinux(
  directory: string,
  say: (step: string) => void,
  signal?: AbortSignal,
): Promise<LinuxParts> {
  say("fetching Debian's cloud kernel and busybox");
  const [kernel, busybox] = (await downloadPackages([`${KERNEL}*`, "busybox-static"], directory, signal)) as [
    DebianArchive,
    DebianArchive,
  ];
  say("unpacking");
  const wanted = (path: string) => /\/boot\/vmlinuz-[^/]+$/.test(path) || isModule(path);
  const files = await unpackFiles(kernel, directory, wanted, signal);
  const image = files.find((path) => path.includes("/boot/vmlinuz-"));
  const [program] = await unpackFiles(busybox, directory, (path) => path.endsWith("/bin/busybox"), signal);
  if (image === undefined || program === undefined) {
    throw new VmmError("VMM_IMAGE", `${kernel.name} holds no kernel, or busybox-static no busybox`);
  }
  return {
    kernel: await readFile(join(directory, image)),
    release: image.slice(image.indexOf("vmlinuz-") + "vmlinuz-".length),
    busybox: await readFile(join(directory, program)),
    modules: files.filter(isModule).map((path) => join(directory, path)),
    made: [kernel, busybox].map(({ name, version }) => `${name} ${version}`),
  };
}

export interface InitramfsContents {
  /** Names of modules; what they need comes along. */
  readonly modules: readonly string[];
  readonly directories: readonly string[];
  /** Path, content, and whether it is a program. */
  readonly files: readonly (readonly [path: string, content: Buffer | string, program?: boolean])[];
}

/** busybox under all its names, modules that modprobe finds, and what else a first program needs. */
export async function makeInitramfs(
  { busybox, release, modules: paths }: LinuxParts,
  contents: InitramfsContents,
): Promise<Buffer> {
  const modules = await collectModules(paths, contents.modules);
  const entries: Entry[] = [];
  const directories = "bin dev etc lib lib/lodge lib/modules mnt proc root run sbin sys tmp usr usr/bin usr/sbin var";
  for (const path of [...directories.split(" "), `lib/modules/${release}`, ...contents.directories]) {
    entries.push({ kind: "directory", path });
  }
  const file = (path: string, data: Buffer | string, program = false) =>
    entries.push({ kind: "file", path, mode: program ? 0o755 : 0o644, data: Buffer.from(data) });
  // The kernel opens it for the first program before that could make one.
  entries.push({ kind: "characters", path: "dev/console", major: 5, minor: 1 });
  file("bin/busybox", busybox, true);
  for (const name of applets(busybox)) {
    if (name !== "busybox") entries.push({ kind: "link", path: `bin/${name}`, to: "busybox" });
  }
  entries.push({ kind: "link", path: "sbin/modprobe", to: "/bin/busybox" });
  for (const [path, content, program] of contents.files) file(path, content, program);
  for (const [path, content] of moduleFiles(release, modules)) file(path, content);
  return cpio(entries);
}

function moduleFiles(release: string, modules: readonly KernelModule[]): [string, Buffer | string][] {
  const { dep, alias } = moduleIndex(modules);
  return [
    [`lib/modules/${release}/modules.dep`, dep],
    [`lib/modules/${release}/modules.alias`, alias],
    ...modules.map(({ name, data }): [string, Buffer] => [`lib/modules/${release}/${name}.ko`, data]),
  ];
}
