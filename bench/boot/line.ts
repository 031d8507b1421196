/** How long a process takes until it has said a line. Without Lodge's packages: the lab, which loads slowly, runs it. */

import { spawn } from "node:child_process";

export const LINE = "the first program runs";

/** A round that takes longer has hung. */
export const LONGEST_MS = 120_000;

/** Milliseconds from the process's start to the line; the process is ended then. */
export async function timeToLine(program: string, args: readonly string[], longestMs = LONGEST_MS): Promise<number> {
  const start = performance.now();
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
  const { promise: closed, resolve } = Promise.withResolvers<void>();
  child.once("close", () => resolve());
  let said = "";
  try {
    return await new Promise<number>((found, fail) => {
      const timer = setTimeout(
        () => fail(new Error(`${program} said no line in time: ${said.slice(-500)}`)),
        longestMs,
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
