/** The port on which a debugger attaches to a machine: `gdb -ex "target remote :1234"`. */

import { createServer, type Socket } from "node:net";
import { VmmError } from "../errors.ts";
import { DebugSession } from "./session.ts";
import type { DebugTarget } from "./target.ts";

export interface GdbServer extends AsyncDisposable {
  readonly port: number;
}

/**
 * Listens on the loopback address. Attaching pauses the machine; a debugger that leaves lets it go on. One debugger at a time:
 * a second one is turned away.
 */
export async function serveGdb(target: DebugTarget, port: number): Promise<GdbServer> {
  let current: Socket | undefined;
  let closing: Promise<void> = Promise.resolve();
  const attach = async (socket: Socket) => {
    await closing;
    await target.pause();
    const session = new DebugSession(target, (bytes) => socket.write(bytes));
    socket.on("data", (bytes) => session.feed(bytes));
    const { promise, resolve } = Promise.withResolvers<void>();
    closing = promise;
    socket.on("close", () => {
      current = undefined;
      // The machine may have ended meanwhile.
      session.close().then(resolve, resolve);
    });
    socket.resume();
  };
  const server = createServer({ pauseOnConnect: true, noDelay: true }, (socket) => {
    socket.on("error", () => socket.destroy());
    if (current === undefined) {
      current = socket;
      attach(socket).catch(() => socket.destroy());
    } else socket.destroy();
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      const why = error.code === "EADDRINUSE" ? "something else listens there; take another port" : error.message;
      reject(new VmmError("VMM_CONFIG", `gdb port ${port}: ${why}`, { cause: error }));
    });
    server.listen(port, "127.0.0.1", resolve);
  });
  const address = server.address();
  return {
    port: typeof address === "object" && address !== null ? address.port : port,
    async [Symbol.asyncDispose]() {
      current?.destroy();
      await closing;
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
