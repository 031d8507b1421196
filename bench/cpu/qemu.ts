/** Boots a bare-metal program under QEMU's TCG. Timestamps are taken where its output arrives. */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { DEBUG_PORT, EXIT_PORT, MEMORY_BYTES, type Outcome, Protocol } from "./protocol.ts";

export async function runTcg(program: string, processors: number): Promise<Outcome> {
  const qemu = spawn(
    "qemu-system-x86_64",
    [
      ...["-accel", "tcg", "-smp", String(processors), "-m", `${MEMORY_BYTES / 2 ** 20}M`, "-kernel", program],
      ...["-display", "none", "-nodefaults", "-no-reboot", "-device", `isa-debug-exit,iobase=${EXIT_PORT}`],
      ...["-chardev", "stdio,id=debug", "-device", `isa-debugcon,iobase=${DEBUG_PORT},chardev=debug`],
    ],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  const protocol = new Protocol();
  qemu.stdout.on("data", (bytes: Buffer) => {
    const now = performance.now();
    for (const byte of bytes) protocol.take(byte, now);
  });
  await once(qemu, "close");
  return protocol.outcome;
}
