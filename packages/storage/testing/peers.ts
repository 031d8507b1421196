/** Other people's tools for disk images and NBD, which judge ours. */

import { type ChildProcess, execFile, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, watch } from "node:fs";
import { connect } from "node:net";
import { dirname } from "node:path";
import { promisify } from "node:util";

const execute = promisify(execFile);

/** Why a suite that needs these programs cannot run here; false when it can. */
export function missing(...programs: string[]): string | false {
  const absent = programs.filter((program) => spawnSync(program, ["--version"]).error !== undefined);
  return absent.length === 0 ? false : `${absent.join(", ")}: not installed`;
}

/** A peer's output; rejects with what it says when it fails. */
export async function run(program: string, ...args: string[]): Promise<string> {
  const { stdout } = await execute(program, args, { encoding: "utf8", maxBuffer: 64 << 20 });
  return stdout;
}

/** A qemu-nbd that serves at a Unix socket until it is disposed of. */
export async function qemuNbd(socket: string, ...args: string[]): Promise<AsyncDisposable & { child: ChildProcess }> {
  const child = spawn("qemu-nbd", ["--persistent", "--shared=8", `--socket=${socket}`, ...args], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (text) => {
    said += text;
  });
  const ended = once(child, "exit").then(() => {
    throw new Error(`qemu-nbd: ${said}`);
  });
  ended.catch(() => {});
  await Promise.race([listens(socket), ended]);
  return {
    child,
    async [Symbol.asyncDispose]() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill("SIGKILL");
      await once(child, "exit");
    },
  };
}

/** Settles when somebody listens there: the socket is bound first, and then listens. */
async function listens(path: string): Promise<void> {
  const watcher = watch(dirname(path));
  try {
    while (!existsSync(path)) await once(watcher, "change");
  } finally {
    watcher.close();
  }
  for (;;) {
    const socket = connect(path);
    const refused = await once(socket, "connect").catch((error) => error.code === "ECONNREFUSED");
    socket.destroy();
    if (refused !== true) return;
  }
}
