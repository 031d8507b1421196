import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempDisposableSync } from "node:fs";
import { createConnection, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Duplex, duplexPair } from "node:stream";
import { test } from "node:test";
import { RING_KINDS, TestGuest } from "../testing/guest.ts";
import { BUFFER_BYTES } from "./connection.ts";
import { Header, Op, Shutdown } from "./layout.ts";
import { UnixSockets } from "./unix-sockets.ts";
import { VsockDevice } from "./vsock.ts";

const CID = 7;

interface Heard {
  op: number;
  guestPort: number;
  hostPort: number;
  flags: number;
  fwdCnt: number;
  data: Uint8Array;
}

/** The guest's end of the device: sends packets and hears those that come. */
class Sockets {
  readonly guest: TestGuest;
  readonly device: VsockDevice;
  #rooms = new Map<number, { gpa: number; length: number; deviceWrites: boolean }>();
  #heard: Heard[] = [];

  constructor(connect: (port: number) => Duplex | undefined, features = -1n) {
    this.device = new VsockDevice({ cid: CID, connect });
    this.guest = new TestGuest(this.device, { features, memoryBytes: 4 << 20 }).start();
    for (let index = 0; index < 16; index++) this.offer();
  }

  offer(length = 4096): void {
    const room = this.guest.room(length);
    this.#rooms.set(this.guest.send(0, [room]), room);
  }

  send(op: number, hostPort: number, more: Partial<Heard> & { bufAlloc?: number; cid?: number } = {}): void {
    const { guestPort = 1000, flags = 0, fwdCnt = 0, data = new Uint8Array(0), bufAlloc = 65536, cid = CID } = more;
    const view = new DataView(new ArrayBuffer(Header.LENGTH));
    view.setBigUint64(Header.SRC_CID, BigInt(cid), true);
    view.setBigUint64(Header.DST_CID, 2n, true);
    view.setUint32(Header.SRC_PORT, guestPort, true);
    view.setUint32(Header.DST_PORT, hostPort, true);
    view.setUint32(Header.LEN, data.length, true);
    view.setUint16(Header.TYPE, 1, true);
    view.setUint16(Header.OP, op, true);
    view.setUint32(Header.FLAGS, flags, true);
    view.setUint32(Header.BUF_ALLOC, bufAlloc, true);
    view.setUint32(Header.FWD_CNT, fwdCnt, true);
    const header = this.guest.give(new Uint8Array(view.buffer));
    this.guest.send(1, data.length === 0 ? [header] : [header, this.guest.give(data)]);
    this.guest.rings[1]!.take();
  }

  /** The next packet from the device. */
  async hear(): Promise<Heard> {
    while (this.#heard.length === 0) {
      for (const { token, length } of await this.guest.used(0)) {
        const bytes = this.guest.bytes(this.#rooms.get(token)!).subarray(0, length);
        const view = new DataView(bytes.buffer, 0, length);
        assert.equal(view.getBigUint64(Header.DST_CID, true), BigInt(CID));
        assert.equal(view.getUint32(Header.LEN, true), length - Header.LENGTH);
        this.#heard.push({
          op: view.getUint16(Header.OP, true),
          hostPort: view.getUint32(Header.SRC_PORT, true),
          guestPort: view.getUint32(Header.DST_PORT, true),
          flags: view.getUint32(Header.FLAGS, true),
          fwdCnt: view.getUint32(Header.FWD_CNT, true),
          data: bytes.subarray(Header.LENGTH),
        });
        this.offer();
      }
    }
    return this.#heard.shift()!;
  }
}

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const bytes = (string: string) => new TextEncoder().encode(string);

for (const { name, features } of RING_KINDS) {
  test(`a stream from the guest, both ways, until both have ended, over ${name}`, async () => {
    const [ours, theirs] = duplexPair();
    const sockets = new Sockets((port) => (port === 80 ? ours : undefined), features);
    sockets.send(Op.REQUEST, 80);
    const response = await sockets.hear();
    assert.deepEqual([response.op, response.hostPort, response.guestPort], [Op.RESPONSE, 80, 1000]);
    sockets.send(Op.RW, 80, { data: bytes("GET /") });
    const [request] = await once(theirs, "data");
    assert.equal(text(request), "GET /");
    theirs.end("200 OK");
    const answer = await sockets.hear();
    assert.deepEqual([answer.op, text(answer.data), answer.fwdCnt], [Op.RW, "200 OK", 5]);
    const end = await sockets.hear();
    assert.deepEqual([end.op, end.flags], [Op.SHUTDOWN, Shutdown.SEND]);
    const ended = once(theirs, "end");
    sockets.send(Op.SHUTDOWN, 80, { flags: Shutdown.SEND | Shutdown.RECEIVE });
    await ended;
    assert.equal((await sockets.hear()).op, Op.RST);
  });
}

test("nobody there, a second request, and a packet of no connection are refused", async () => {
  const [ours] = duplexPair();
  const sockets = new Sockets((port) => (port === 80 ? ours : undefined));
  sockets.send(Op.REQUEST, 81);
  sockets.send(Op.RW, 82, { data: bytes("x") });
  sockets.send(Op.RST, 83);
  sockets.send(Op.REQUEST, 84, { cid: 8 });
  assert.deepEqual([(await sockets.hear()).hostPort, (await sockets.hear()).hostPort], [81, 82]);
  sockets.send(Op.REQUEST, 80);
  assert.equal((await sockets.hear()).op, Op.RESPONSE);
  sockets.send(Op.REQUEST, 80);
  assert.equal((await sockets.hear()).op, Op.RST);
  assert.ok(ours.destroyed);
});

test("the host sends no more than the guest can hold", async () => {
  const [ours, theirs] = duplexPair();
  const sockets = new Sockets(() => ours);
  theirs.write("x".repeat(10_000));
  sockets.send(Op.REQUEST, 80, { bufAlloc: 6000 });
  assert.equal((await sockets.hear()).op, Op.RESPONSE);
  const lengths = [(await sockets.hear()).data.length, (await sockets.hear()).data.length];
  assert.deepEqual(lengths, [4096 - Header.LENGTH, 6000 - (4096 - Header.LENGTH)]);
  sockets.send(Op.CREDIT_UPDATE, 80, { bufAlloc: 6000, fwdCnt: 5000 });
  assert.equal((await sockets.hear()).data.length, 4000);
});

test("the guest is told of room when the host has read, and reset when it sends more", async () => {
  const [ours, theirs] = duplexPair({ highWaterMark: 1024 });
  const sockets = new Sockets(() => ours);
  sockets.send(Op.REQUEST, 80);
  assert.equal((await sockets.hear()).op, Op.RESPONSE);
  const piece = new Uint8Array(BUFFER_BYTES / 4);
  for (let index = 0; index < 4; index++) sockets.send(Op.RW, 80, { data: piece });
  let read = 0;
  theirs.on("data", (data: Uint8Array) => {
    read += data.length;
  });
  const update = await sockets.hear();
  assert.equal(update.op, Op.CREDIT_UPDATE);
  assert.ok(update.fwdCnt >= BUFFER_BYTES / 2 && update.fwdCnt <= read);
  sockets.send(Op.CREDIT_REQUEST, 80);
  assert.equal((await sockets.hear()).op, Op.CREDIT_UPDATE);
  theirs.pause();
  for (let index = 0; index < 9; index++) sockets.send(Op.RW, 80, { data: piece });
  let last = await sockets.hear();
  while (last.op === Op.CREDIT_UPDATE) last = await sockets.hear();
  assert.equal(last.op, Op.RST);
});

test("the host's programs reach the guest by Unix sockets, and the guest theirs", async () => {
  using dir = mkdtempDisposableSync(join(tmpdir(), "lodge-vsock-"));
  const path = join(dir.path, "vsock");
  await using unix = await UnixSockets.listen(path);
  const sockets = new Sockets(unix.connect);
  unix.serve(sockets.device);

  const dialling = createConnection(path);
  dialling.write("CONNECT 5000\nhello");
  const request = await sockets.hear();
  assert.deepEqual([request.op, request.guestPort], [Op.REQUEST, 5000]);
  sockets.send(Op.RESPONSE, request.hostPort, { guestPort: 5000 });
  assert.equal(text((await sockets.hear()).data), "hello");
  sockets.send(Op.RW, request.hostPort, { guestPort: 5000, data: bytes("hi") });
  assert.equal(String((await once(dialling, "data"))[0]), "hi");
  dialling.destroy();

  await using server = createServer((socket) => void socket.end("welcome"));
  server.listen(`${path}_99`);
  await once(server, "listening");
  sockets.send(Op.REQUEST, 99);
  const heard: string[] = [];
  for (let packet = await sockets.hear(); ; packet = await sockets.hear()) {
    if (packet.hostPort !== 99) continue;
    heard.push(`${packet.op} ${text(packet.data)}`.trim());
    if (packet.op === Op.SHUTDOWN) break;
  }
  assert.deepEqual(heard, ["2", "5 welcome", "4"]);
  sockets.send(Op.SHUTDOWN, 99, { flags: 3 });

  sockets.send(Op.REQUEST, 98);
  let gone = await sockets.hear();
  while (gone.hostPort !== 98 || gone.op === Op.RESPONSE) gone = await sockets.hear();
  assert.equal(gone.op, Op.RST, "there is no such socket");

  const rude = createConnection(path);
  rude.write("HELLO\n");
  await once(rude, "close");
  await sockets.guest.transport.close();
});

test("refusals wait for room, and nothing is taken meanwhile", async () => {
  const sockets = new Sockets(() => undefined);
  for (let port = 0; port < 100; port++) sockets.send(Op.REQUEST, port);
  for (let port = 0; port < 100; port++) assert.equal((await sockets.hear()).hostPort, port);
});

test("restored, the guest is told that its connections are gone", async () => {
  const [ours] = duplexPair();
  const sockets = new Sockets(() => ours);
  await sockets.guest.transport.pause();
  const state = sockets.device.save();
  const second = new VsockDevice({ cid: CID, connect: () => undefined }, state);
  const saved = sockets.guest.transport.save();
  const guest = new TestGuest(second, { saved, from: sockets.guest });
  const room = guest.room(8);
  guest.send(2, [room]);
  guest.transport.resume();
  assert.deepEqual(
    (await guest.used(2)).map(({ length }) => length),
    [4],
  );
  const wrong = () => new VsockDevice({ cid: 8, connect: () => undefined }, state);
  assert.throws(wrong, /virtio-vsock: cid is 7, and this guest's is 8/);
  assert.throws(() => new VsockDevice({ cid: 2, connect: () => undefined }), /guest's address of 2/);
});
