/**
 * From a command to the guest's first program: Debian's cloud kernel, an initramfs whose init prints a line, 512 MiB, in
 * software on both sides. Whole processes, from their start to the line. One machine before that is switched off by its
 * guest, as machines mostly are: what it leaves in the user's caches is there for the others, which are killed at the line.
 */

import { execFileSync } from "node:child_process";
import { mkdtempDisposableSync, readFileSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { prepareImage } from "@lodge/vmm";
import { runInLab } from "../../lab/lab.ts";
import { cpio } from "../../packages/vmm/src/images/cpio.ts";
import { type Comparison, compare, type Results } from "../harness.ts";
import type { Commands } from "./in-lab.ts";
import { LINE, LONGEST_MS, timeToLine } from "./line.ts";

const ROUNDS = 5;
const APPEND = "console=ttyS0 quiet";
/** Without it, guests of either stop in their first second there, more often than not (docs/lab.md). */
const APPEND_IN_LAB = `${APPEND} nopv`;
const LIMIT = 1.5;
const ROOT = join(import.meta.dirname, "../..");
const KVM_LIMIT = 1;

interface Options {
  quick?: boolean;
  /** `kvm`: on real KVM, in the lab, against QEMU there. */
  only?: readonly string[];
}

export default async function run({ quick = false, only = [] }: Options = {}): Promise<Results> {
  const { kernel, initrd: whole } = await prepareImage("tiny");
  using directory = mkdtempDisposableSync(join(tmpdir(), "lodge-boot-"));
  // A later archive of an initramfs replaces files of those before it.
  const initramfs = (name: string, end: string): string => {
    const init = `#!/bin/busybox sh\nmount -t devtmpfs dev /dev\necho ${LINE} >/dev/console\nexec ${end}\n`;
    const ours = cpio([{ kind: "file", path: "init", mode: 0o755, data: Buffer.from(init) }]);
    const file = join(directory.path, name);
    writeFileSync(file, Buffer.concat([readFileSync(whole), ours]));
    return file;
  };
  const initrd = initramfs("initrd", "sleep 1000000");
  const ending = initramfs("initrd-ending", "poweroff -f");

  const lodge = join(only.includes("kvm") ? TREE_IN_LAB : ROOT, "packages/cli/bin/lodge.js");
  // As ./lodge starts it: a processor is left to the vCPU.
  const pool = Math.min(4, Math.max(1, availableParallelism() - 1));
  const own = [`--v8-pool-size=${pool}`, "--max-semi-space-size=2", lodge];
  const append = only.includes("kvm") ? APPEND_IN_LAB : APPEND;
  const machine = ["--memory", "512M", "--kernel", kernel, "--append", append];
  const bare = ["-M", "pc", "-m", "512", "-display", "none", "-serial", "stdio", "-no-reboot"];
  const linux = ["-kernel", kernel, "-initrd", initrd, "-append", append];
  const lodgeRun = (accelerator: string, initrd: string) => [
    ...own,
    "run",
    "--accel",
    accelerator,
    ...machine,
    "--initrd",
    initrd,
  ];
  if (only.includes("kvm")) {
    const comparison = await inLab({
      what: "command to the guest's first program, in the lab",
      ahead: [process.execPath, ...lodgeRun("kvm", ending)],
      ours: [process.execPath, ...lodgeRun("kvm", initrd)],
      theirs: ["qemu-system-x86_64", ...bare, "-enable-kvm", ...linux],
      rounds: quick ? 1 : ROUNDS,
      limit: KVM_LIMIT,
    });
    return { against: "QEMU KVM", comparisons: [comparison], figures: [] };
  }
  execFileSync(process.execPath, lodgeRun("soft", ending), {
    stdio: ["ignore", "ignore", "inherit"],
    timeout: LONGEST_MS,
  });
  const boot = await compare({
    what: "command to the guest's first program",
    unit: "ms",
    ours: () => timeToLine(process.execPath, lodgeRun("soft", initrd)),
    theirs: () => timeToLine("qemu-system-x86_64", [...bare, "-accel", "tcg", ...linux]),
    rounds: quick ? 1 : ROUNDS,
    limit: LIMIT,
  });
  return { against: "QEMU TCG", comparisons: [boot], figures: [] };
}

/**
 * Where Lodge is in the lab: in its memory. The host's files are there over 9p, which asks the host at each opening of each of some
 * hundreds of sources; of a program in one file that is never seen again once the kernel has its pages.
 */
const TREE_IN_LAB = "/tmp/lodge-tree";
const NOT_LODGE = [
  "*.test.ts",
  "node_modules/.cache",
  "node_modules/*biome*",
  "node_modules/*typescript*",
  "node-linux-*",
];

/** The same inside, where the host's files are. */
async function inLab(commands: Commands): Promise<Comparison> {
  const exclude = NOT_LODGE.map((pattern) => `--exclude=${pattern}`);
  const tar = ["-c", "-C", ROOT, ...exclude, "packages", "node_modules"];
  const tree = execFileSync("tar", tar, { maxBuffer: 2 ** 30 });
  const unpack = `mkdir -p "$0" && tar -x -C "$0" && exec "$@"`;
  const measure = [process.execPath, join(import.meta.dirname, "in-lab.ts"), JSON.stringify(commands)];
  const { stdout, stderr, status } = await runInLab(["sh", "-c", unpack, TREE_IN_LAB, ...measure], { stdin: tree });
  if (status !== 0) throw new Error(`in the lab: ${stderr}`);
  return JSON.parse(stdout);
}
