/** The socket on which QMP is spoken. */

import { existsSync } from "node:fs";
import { lstat, rm } from "node:fs/promises";
import { createConnection, createServer, type Socket } from "node:net";
import { dirname } from "node:path";
import { VmmError } from "../errors.ts";
import type { LifeEvent } from "../life.ts";
import type { Machine } from "../machine.ts";
import { eventsOf } from "./commands.ts";
import { QmpSession } from "./session.ts";

/** How long a client may take to read its last answers. */
const GRACE_MS = 1000;

/** What a client that does not read may leave with us. */
const MOST_UNREAD_BYTES = 1 << 20;

export interface QmpServer extends AsyncDisposable {
  tell(event: LifeEvent): void;
}

/** As the system has it (unix(7): `sun_path`, less the zero behind it). */
const LONGEST_PATH = 107;

/** Listens on a Unix socket, whose file is this server's while it lives. Any number of clients. */
export async function serveQmp(machine: Machine, path: string): Promise<QmpServer> {
  const clients = new Map<Socket, QmpSession>();
  const server = createServer((socket) => {
    const session = new QmpSession(machine, (text) => {
      if (socket.writableLength > MOST_UNREAD_BYTES) socket.destroy();
      else socket.write(text);
    });
    clients.set(socket, session);
    socket.on("error", () => socket.destroy());
    socket.on("close", () => clients.delete(socket));
    socket.on("data", (bytes) => {
      if (!session.feed(bytes)) socket.destroy();
    });
  });
  if (Buffer.byteLength(path) > LONGEST_PATH) {
    throw new VmmError("VMM_CONFIG", `QMP socket ${path}: its path has more than ${LONGEST_PATH} bytes`);
  }
  if (!existsSync(dirname(path))) throw new VmmError("VMM_CONFIG", `QMP socket ${path}: there is no such folder`);
  await removeStale(path);
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      const why = error.code === "EADDRINUSE" ? "there is such a file already; take another name" : error.message;
      reject(new VmmError("VMM_CONFIG", `QMP socket ${path}: ${why}`, { cause: error }));
    });
    server.listen(path, resolve);
  });
  return {
    tell(told) {
      for (const { name, data } of eventsOf(told, machine)) {
        for (const session of clients.values()) session.tell(name, data);
      }
    },
    async [Symbol.asyncDispose]() {
      const closed = new Promise((resolve) => server.close(resolve));
      // What was answered and told is read before the end; a client that does not read is not waited for.
      for (const [socket, session] of clients) void session.idle.then(() => socket.destroySoon());
      const patience = setTimeout(() => {
        for (const socket of clients.keys()) socket.destroy();
      }, GRACE_MS);
      await closed;
      clearTimeout(patience);
    },
  };
}

/** Takes away the socket of a machine that was killed: one on which nobody listens. */
async function removeStale(path: string): Promise<void> {
  const there = await lstat(path).catch(() => undefined);
  if (!there?.isSocket()) return;
  const dead = await new Promise<boolean>((resolve) => {
    const probe = createConnection(path);
    probe.once("connect", () => {
      probe.destroy();
      resolve(false);
    });
    probe.once("error", (error: NodeJS.ErrnoException) => resolve(error.code === "ECONNREFUSED"));
  });
  if (dead) await rm(path, { force: true });
}
