/** Frames on a switch's socket. */

import assert from "node:assert/strict";
import { mkdtempDisposableSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { connectUnix, listenUnix, type UnixStream } from "../host/unix-stream.ts";
import type { Offload } from "../port.ts";
import { CarriedFrames, receiveLine, sendFrame, sendLine } from "./protocol.ts";

async function pair(path: string) {
  const { promise, resolve } = Promise.withResolvers<UnixStream>();
  using _ = listenUnix(path, resolve);
  const client = connectUnix(path);
  const socket = await promise;
  return {
    client,
    socket,
    [Symbol.dispose]: () => {
      client.destroy();
      socket.destroy();
    },
  };
}

test("frames of every length come as they were sent, with what is yet to be done, also to who reads late", async () => {
  using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-protocol-"));
  using ends = await pair(join(folder.path, "socket"));
  const offload: Offload = {
    checksum: { start: 34, offset: 16 },
    segments: { version: 4, size: 1448, headerBytes: 54, congestion: false },
  };
  const lengths = [60, 1514, 4095, 4096, 9014, 65535, 65553];
  const sent: { frame: Uint8Array; offload: Offload | undefined }[] = [];
  const frame = new Uint8Array(65553);
  // More than the sockets hold: what waits must not be written over by what comes after it.
  for (let number = 0; number < 280; number++) {
    const length = lengths[number % lengths.length]!;
    frame.fill(number, 0, length);
    const what = number % 3 === 0 ? offload : undefined;
    sendFrame(ends.client, frame.subarray(0, length), what);
    sent.push({ frame: frame.slice(0, length), offload: what });
  }
  assert.ok(ends.client.writableLength > 1 << 20);
  const frames = new CarriedFrames();
  let got = 0;
  const { promise: all, resolve } = Promise.withResolvers<void>();
  frames.receiveFrom(ends.socket, () => {
    for (let next = frames.next; next !== undefined; next = frames.next) {
      assert.ok(next !== false);
      assert.deepEqual({ frame: Uint8Array.from(next.frame), offload: next.offload }, sent[got]);
      got += 1;
      frames.take();
    }
    if (got === sent.length) resolve();
  });
  ends.socket.resume();
  await all;
});

test("short frames that nobody reads take about the memory that they are counted as", async () => {
  using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-protocol-"));
  using ends = await pair(join(folder.path, "socket"));
  const before = process.memoryUsage().arrayBuffers;
  const frame = new Uint8Array(60);
  while (ends.client.writableLength < 4 << 20) sendFrame(ends.client, frame, undefined);
  const grown = process.memoryUsage().arrayBuffers - before;
  assert.ok(grown < 16 << 20, `${grown >> 20} MiB`);
});

test("what follows the first line in one piece is not lost; what is no line is refused", async () => {
  using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-protocol-"));
  {
    using ends = await pair(join(folder.path, "a"));
    sendLine(ends.client, { want: "port" });
    sendFrame(ends.client, new Uint8Array(60).fill(7), undefined);
    assert.equal((await receiveLine(ends.socket)).want, "port");
    const frames = new CarriedFrames();
    const { promise, resolve } = Promise.withResolvers<void>();
    frames.receiveFrom(ends.socket, () => {
      if (frames.next !== undefined) resolve();
    });
    ends.socket.resume();
    await promise;
    assert.equal((frames.next as { frame: Uint8Array }).frame[0], 7);
  }
  for (const said of ["no json\n", "7\n", "x".repeat(70_000)]) {
    using ends = await pair(join(folder.path, `b${said.length}`));
    ends.client.write(said);
    await assert.rejects(receiveLine(ends.socket), { code: "NETWORK_HOST", message: /no switch speaks like this/ });
  }
});
