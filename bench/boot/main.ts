/**
 * From a command to the guest's first program: Debian's cloud kernel, an initramfs whose init prints a line, 512 MiB, in
 * software on both sides. Whole processes, from their start to the line.
 */

import { spawn } from "node:child_process";
import { mkdtempDisposableSync, readFileSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { prepareImage } from "@lodge/vmm";
import { cpio } from "../../packages/vmm/src/images/cpio.ts";
import { compare, type Results } from "../harness.ts";

const ROUNDS = 5;
/** A round that takes longer has hung. */
const LONGEST_MS = 120_000;
const LINE = "the first program runs";
const APPEND = "console=ttyS0 quiet";
const LIMIT = 1.5;

export default async function run({ quick = false }: { quick?: boolean } = {}): Promise<Results> {
  const { kernel, initrd: whole } = await prepareImage("tiny");
  using directory = mkdtempDisposableSync(join(tmpdir(), "lodge-boot-"));
  const initrd = join(directory.path, "initrd");
  // A later archive of an initramfs replaces files of those before it.
  const init = `#!/bin/busybox sh\nmount -t devtmpfs dev /dev\necho ${LINE} >/dev/console\nexec sleep 1000000\n`;
  const ours = cpio([{ kind: "file", path: "init", mode: 0o755, data: Buffer.from(init) }]);
  writeFileSync(initrd, Buffer.concat([readFileSync(whole), ours]));

  const lodge = join(import.meta.dirname, "../../packages/cli/bin/lodge.js");
  // As ./lodge starts it: a processor is left to the vCPU.
  const own = [`--v8-pool-size=${Math.min(4, Math.max(1, availableParallelism() - 1))}`, lodge];
  const machine = ["--kernel", kernel, "--initrd", initrd, "--append", APPEND];
  const bare = ["-M", "pc", "-accel", "tcg", "-m", "512", "-display", "none", "-serial", "stdio", "-no-reboot"];
  const boot = await compare({
    what: "command to the guest's first program",
    unit: "ms",
    ours: () => timeToLine(process.execPath, [...own, "run", "--accel", "soft", "--memory", "512M", ...machine]),
    theirs: () => timeToLine("qemu-system-x86_64", [...bare, "-kernel", kernel, "-initrd", initrd, "-append", APPEND]),
    rounds: quick ? 1 : ROUNDS,
    limit: LIMIT,
  });
  return { against: "QEMU TCG", comparisons: [boot], figures: [] };
}

/** Milliseconds from the process's start to the line; the process is ended then. */
async function timeToLine(program: string, args: readonly string[]): Promise<number> {
  const start = performance.now();
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
  const { promise: closed, resolve } = Promise.withResolvers<void>();
  child.once("close", () => resolve());
  let said = "";
  try {
    return await new Promise<number>((found, fail) => {
      const timer = setTimeout(
        () => fail(new Error(`${program} said no line in time: ${said.slice(-500)}`)),
        LONGEST_MS,
      );
      const listen = (bytes: Buffer) => {
        said += bytes;
        if (!said.includes(LINE)) return;
        clearTimeout(timer);
        found(performance.now() - start);
      };
      child.stdout.on("data", listen);
      child.stderr.on("data", listen);
      child.once("error", fail);
      child.once("close", (status) => fail(new Error(`${program} ended with ${status}: ${said.slice(-500)}`)));
    });
  } finally {
    child.kill("SIGKILL");
    await closed;
  }
}
