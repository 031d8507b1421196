/** Frames on streams: cut at every byte, and with QEMU at the other end, whose user networking then serves Linux for a guest. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempDisposableSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { KernelGuest } from "../../testing/kernel-guest.ts";
import { enterOwnNetwork, lacks } from "../../testing/namespaces.ts";
import { FrameReader, framed } from "./frames.ts";
import { StreamPort } from "./port.ts";

const NOBODY = { checksum: false, tcp4: false, tcp6: false };

test("frames come out as they went in, wherever the stream is cut", () => {
  const frames = [1, 14, 60, 1514].map((length) => Uint8Array.from({ length }, (_, at) => at));
  const length = Buffer.concat(frames.map(framed)).length;
  const copied = (reader: FrameReader, part: Buffer) => {
    reader.add(part);
    part.fill(0xee);
  };
  const received = (reader: FrameReader, part: Buffer) => {
    reader.room().set(part);
    reader.filled(part.length);
  };
  for (const arrive of [copied, received]) {
    const reader = new FrameReader();
    for (let cut = 0; cut <= length; cut++) {
      const stream = Buffer.concat(frames.map(framed));
      const got: Uint8Array[] = [];
      for (const part of [stream.subarray(0, cut), stream.subarray(cut)]) {
        arrive(reader, part);
        for (let frame = reader.next; frame; frame = reader.next) {
          // Whoever keeps a part of it copies it like this.
          got.push(frame.slice());
          reader.take();
        }
      }
      assert.deepEqual(got, frames, `${arrive.name}, cut at ${cut}`);
      assert.equal(reader.keptBytes, 0);
    }
  }
});

test("what is received meanwhile does not grow without end, and nothing of it is lost when it is taken late", () => {
  const frame = Uint8Array.from({ length: 60_000 }, (_, at) => at);
  const bytes = framed(frame);
  const reader = new FrameReader();
  let sent = 0;
  for (let round = 0; round < 100; round++) {
    const room = reader.room();
    assert.ok(room.length > 0 && room.buffer.byteLength <= 1 << 20, `${room.buffer.byteLength} bytes`);
    for (let at = 0; at < room.length; at++) room[at] = bytes[sent++ % bytes.length]!;
    reader.filled(room.length);
    if (round % 3 === 0) reader.room();
    let taken = 0;
    for (let next = reader.next; next; next = reader.next) {
      assert.deepEqual(next, frame);
      reader.take();
      taken += 1;
    }
    assert.ok(taken >= 4);
  }
});

test("lengths that no frame has end the connection", async () => {
  using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-stream-"));
  for (const length of [0, 65554, 0xffffffff]) {
    const place = { path: join(folder.path, `bad-${length}`) };
    const server = createServer((socket) => {
      const bytes = Buffer.alloc(8);
      bytes.writeUInt32BE(length);
      socket.on("error", () => {}).write(bytes);
    }).listen(place.path);
    await once(server, "listening");
    const ended = once(server, "connection").then(([socket]) => once(socket.resume(), "close"));
    await using port = await StreamPort.connect(place);
    port.connect({ takes: NOBODY, receive: () => assert.fail("a frame") });
    await ended;
    server.close();
  }
});

test("two ends, one that has no room for a while, and one that goes and comes back", async () => {
  using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-stream-"));
  const place = { path: join(folder.path, "cable") };
  await assert.rejects(StreamPort.connect(place), { code: "NETWORK_HOST", message: /nobody listens there/ });
  const one = await StreamPort.listen(place);
  await assert.rejects(StreamPort.listen(place), { code: "NETWORK_HOST", message: /it is taken/ });
  await using other = await StreamPort.connect(place);
  let hasRoom = false;
  let wake = () => {};
  const got: number[] = [];
  other.connect({
    takes: NOBODY,
    receive: (frame) => {
      if (hasRoom) got.push(frame[0]!);
      wake();
      return hasRoom;
    },
  });
  const event = () =>
    new Promise<void>((resolve) => {
      wake = resolve;
    });
  const asked = event();
  for (let number = 0; number < 5; number++) one.transmit(new Uint8Array(60).fill(number));
  await asked;
  hasRoom = true;
  while (got.length < 5) {
    other.room();
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.deepEqual(got, [0, 1, 2, 3, 4]);
  await one[Symbol.asyncDispose]();
  assert.equal(existsSync(place.path), false);
  await using again = await StreamPort.listen(place);
  while (!again.isConnected) await new Promise((resolve) => setTimeout(resolve, 10));
  const came = event();
  again.transmit(new Uint8Array(60).fill(9));
  await came;
  assert.equal(got.at(-1), 9);
});

test("QEMU's -netdev stream is the other end", { skip: lacks("qemu-system-x86_64", "ping") }, async () => {
  enterOwnNetwork();
  using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-stream-"));
  const path = join(folder.path, "qemu");
  const qemu = spawn("qemu-system-x86_64", [
    ...["-M", "none", "-display", "none", "-netdev", `stream,id=s,server=on,addr.type=unix,addr.path=${path}`],
    ...["-netdev", "user,id=u", "-netdev", "hubport,id=a,hubid=0,netdev=s", "-netdev", "hubport,id=b,hubid=0,netdev=u"],
  ]);
  try {
    while (!existsSync(path)) await new Promise((resolve) => setTimeout(resolve, 10));
    await using port = await StreamPort.connect({ path });
    await using guest = await KernelGuest.make(port, { offloads: false });
    await guest.configure();
    assert.match(await guest.host.do("ping", "-c", "2", "-i", "0.2", "10.0.2.2"), /2 received/);
  } finally {
    qemu.kill("SIGKILL");
    await once(qemu, "close");
  }
});
