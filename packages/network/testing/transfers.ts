/** Many transfers at once between a guest and this process's network, each of which has to arrive as it was sent. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { finished } from "node:stream/promises";
import type { Host } from "./namespaces.ts";

const CLIENT = join(import.meta.dirname, "client.ts");

const hashOf = (data: Buffer) => createHash("sha256").update(data).digest("hex");

/** The hash of what a connection brings, which gets `data`; of a connection that breaks, how it broke. */
async function exchange(socket: Socket, data: Buffer): Promise<string> {
  const hash = createHash("sha256");
  socket.on("data", (part: Buffer) => hash.update(part));
  socket.end(data);
  try {
    await finished(socket, { writable: false });
    return hash.digest("hex");
  } catch (error) {
    return String(error);
  }
}

/** So many of so many KiB to the guest and four from it, by the NAT's gateway, which leads to this process's loopback. */
export async function transferWhole(guest: Host, transfers: number, kib: number): Promise<void> {
  const data = Buffer.alloc(kib * 1024, "what arrives is what was sent, in its order ");
  const received: Promise<string>[] = [];
  const server = createServer({ allowHalfOpen: true }, (socket) => received.push(exchange(socket, data)));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  try {
    const { port } = server.address() as AddressInfo;
    const args = ["exchange", "10.0.2.2", port, transfers, kib].map(String);
    const downloads: { bytes: number; sha256: string }[] = JSON.parse(
      await guest.do(process.execPath, CLIENT, ...args),
    );
    const sha256 = hashOf(data);
    assert.deepEqual(
      downloads.map((one) => [one.bytes, one.sha256]),
      Array(transfers).fill([data.length, sha256]),
    );
    // The client ends when it has what it waits for: what it sent may still be on its way.
    const uploaded = hashOf(Buffer.alloc(kib * 1024, "u"));
    assert.equal((await Promise.all(received)).filter((one) => one === uploaded).length, 4);
  } finally {
    server.close();
  }
}
