/**
 * The virtio disk in the guest: Debian's fio on a raw file, with the same kernel and initramfs in Lodge and in QEMU, both in
 * software. And what it costs to leave the guest. Each round boots both sides once.
 */

import { spawn, spawnSync } from "node:child_process";
import { randomFillSync } from "node:crypto";
import { closeSync, mkdtempDisposableSync, openSync, readFileSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { prepareImage } from "@lodge/vmm";
import { type Comparison, median, type Results } from "../harness.ts";
import { EXITS, fioArchive, JOBS, operationsPerSecond } from "./guest.ts";

const ROUNDS = 3;
const LIMIT = 1;
const DISK_MIB = 256;
const APPEND = "console=ttyS0 quiet";
/** A round that takes longer has hung. */
const LONGEST_MS = 400_000;
const EXIT = "leaving the guest and coming back";

/** Microseconds of an operation, by what it is. */
type Measured = Map<string, number>;

export default async function run({ quick = false }: { quick?: boolean } = {}): Promise<Results> {
  const missing = ["fio", "qemu-system-x86_64"].filter((name) => spawnSync(name, ["--version"]).error !== undefined);
  if (missing.length > 0) throw new Error(`the benchmark blk needs ${missing.join(" and ")}: apt-get install them`);
  const { kernel, initrd: tiny } = await prepareImage("tiny");
  using directory = mkdtempDisposableSync(join(tmpdir(), "lodge-blk-"));
  const [initrd, disk] = [join(directory.path, "initrd"), join(directory.path, "disk")];
  writeFileSync(initrd, Buffer.concat([readFileSync(tiny), fioArchive()]));
  fill(disk);

  const lodge = join(import.meta.dirname, "../../packages/cli/bin/lodge.js");
  const ours = ["--accel", "soft", "--memory", "512M", "--kernel", kernel, "--initrd", initrd, "--append", APPEND];
  const bare = ["-M", "pc", "-accel", "tcg", "-m", "512", "-display", "none", "-serial", "stdio", "-no-reboot"];
  const drive = ["-drive", `file=${disk},format=raw,if=none,id=disk`, "-device", "virtio-blk-pci,drive=disk"];
  const sides = {
    ours: () => measure(process.execPath, [lodge, "run", ...ours, "--net", "none", "--disk", `${disk},format=raw`]),
    theirs: () =>
      measure("qemu-system-x86_64", [...bare, ...drive, "-kernel", kernel, "-initrd", initrd, "-append", APPEND]),
  };
  const figures = { ours: [] as Measured[], theirs: [] as Measured[] };
  const rounds = quick ? 1 : ROUNDS;
  for (let round = 0; round < rounds; round++) {
    for (const side of round % 2 === 0 ? (["ours", "theirs"] as const) : (["theirs", "ours"] as const)) {
      figures[side].push(await sides[side]());
    }
  }
  const comparisons = [...Object.keys(JOBS), EXIT].map((what): Comparison => {
    const [a, b] = [figures.ours, figures.theirs].map((all) => median(all.map((one) => one.get(what)!)));
    return { what, unit: "us", ours: a!, theirs: b!, ratio: a! / b!, limit: LIMIT, rounds };
  });
  return { against: "QEMU TCG", comparisons, figures: [] };
}

/** Random bytes, so that no side finds holes. */
function fill(path: string): void {
  const fd = openSync(path, "w");
  const piece = Buffer.alloc(1 << 20);
  for (let done = 0; done < DISK_MIB; done++) writeSync(fd, randomFillSync(piece));
  closeSync(fd);
}

/** Boots once and hears what the guest says of its jobs. */
async function measure(program: string, args: readonly string[]): Promise<Measured> {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "inherit"] });
  const timer = setTimeout(() => child.kill("SIGKILL"), LONGEST_MS);
  const measured: Measured = new Map();
  const names = Object.keys(JOBS);
  let began = 0;
  let last = "";
  for await (const line of createInterface({ input: child.stdout })) {
    last = line;
    const job = /^job (\d+): (.*)$/.exec(line);
    if (job !== null) measured.set(names[Number(job[1])]!, 1e6 / operationsPerSecond(job[2]!));
    if (line.startsWith("ports begin")) began = performance.now();
    if (line.startsWith("ports end")) measured.set(EXIT, ((performance.now() - began) * 1000) / EXITS);
  }
  clearTimeout(timer);
  if (measured.size !== names.length + 1) {
    throw new Error(`${program} came to ${measured.size} of ${names.length + 1} figures; its last words: ${last}`);
  }
  return measured;
}
