/**
 * What a back end of vhost-user is told and what it may say, with one that is a script. That frames pass is tested with real ones,
 * in the package vmm.
 */

import assert from "node:assert/strict";
import { mkdtempDisposableSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import {
  AddressFamily,
  bindSocket,
  close,
  Eventfd,
  encodeUnixPath,
  listen,
  receiveDescriptors,
  SocketType,
  sendDescriptors,
  socket,
  tryAccept,
  watchReadable,
} from "@lodge/linux";
import { Feature } from "../device.ts";
import { TestGuest } from "../testing/guest.ts";
import { PROTOCOL_FEATURES, ProtocolFeature, Request } from "../vhost/user-protocol.ts";
import { Config, Control, NetFeature } from "./layout.ts";
import { VhostNetDevice, type VhostNetOptions } from "./vhost-net.ts";

const MAC = "52:54:00:12:34:56";
const FEATURES = Feature.VERSION_1 | Feature.EVENT_IDX | NetFeature.MRG_RXBUF | PROTOCOL_FEATURES;
const PROTOCOL = ProtocolFeature.MQ | ProtocolFeature.REPLY_ACK | ProtocolFeature.RARP | ProtocolFeature.NET_MTU;
const NAMES = new Map<number, string>(Object.entries(Request).map(([name, number]) => [number, name]));

interface Heard {
  readonly name: string;
  readonly payload: DataView;
  readonly descriptors: readonly number[];
}

/** Listens, and answers as its table says. */
class Script implements Disposable {
  readonly folder = mkdtempDisposableSync(join(tmpdir(), "lodge-vhost-user-"));
  readonly path = join(this.folder.path, "socket");
  readonly heard: Heard[] = [];
  /** What each request is answered with; nothing for those that are missing, and 0 for whoever wants a confirmation. */
  readonly answers: Record<string, readonly bigint[]> = {
    GET_FEATURES: [FEATURES],
    GET_PROTOCOL_FEATURES: [PROTOCOL],
    GET_QUEUE_NUM: [2n],
    GET_VRING_BASE: [(7n << 32n) | 0n],
  };
  /** Requests that the test answers. */
  readonly held = new Set<string>();
  readonly #listener = socket(AddressFamily.UNIX, SocketType.STREAM);
  readonly #watch: Disposable;
  /** By descriptor; the last is the one that is spoken to. */
  readonly #connections = new Map<number, Disposable>();
  #changed = () => {};

  constructor() {
    bindSocket(this.#listener, encodeUnixPath(this.path));
    listen(this.#listener, 1);
    this.#watch = watchReadable(this.#listener, () => {
      const fd = tryAccept(this.#listener);
      if (fd >= 0)
        this.#connections.set(
          fd,
          watchReadable(fd, () => this.#receive(fd)),
        );
    });
  }

  #receive(fd: number): void {
    const { data, descriptors } = receiveDescriptors(fd, 12, 8);
    if (data.length === 0) {
      this.#hangUp(fd);
      return;
    }
    const header = new DataView(data.buffer, data.byteOffset, 12);
    const [request, flags, size] = [0, 4, 8].map((offset) => header.getUint32(offset, true));
    const body = size === 0 ? new Uint8Array() : receiveDescriptors(fd, size!, 0).data.slice();
    const name = NAMES.get(request!)!;
    this.heard.push({ name, payload: new DataView(body.buffer), descriptors });
    const answer = this.answers[name] ?? (flags! & 8 ? [0n] : undefined);
    if (answer !== undefined && !this.held.has(name)) this.say(request!, answer);
    this.#changed();
  }

  say(request: number, values: readonly bigint[], size = values.length * 8): void {
    const view = new DataView(new ArrayBuffer(12 + values.length * 8));
    for (const [index, word] of [request, 5, size].entries()) view.setUint32(index * 4, word, true);
    for (const [index, value] of values.entries()) view.setBigUint64(12 + index * 8, value, true);
    sendDescriptors([...this.#connections.keys()].at(-1)!, new Uint8Array(view.buffer), []);
  }

  /** Waits until a message was heard so often since the last look at it, and returns all that was. */
  async until(name: string, count = 1): Promise<Heard[]> {
    while (this.heard.filter((one) => one.name === name).length < count) {
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
      });
    }
    return this.heard.splice(0);
  }

  #hangUp(fd: number): void {
    this.#connections.get(fd)?.[Symbol.dispose]();
    this.#connections.delete(fd);
    close(fd);
  }

  [Symbol.dispose](): void {
    for (const fd of this.#connections.keys()) this.#hangUp(fd);
    for (const { descriptors } of this.heard) for (const fd of descriptors) close(fd);
    this.#watch[Symbol.dispose]();
    close(this.#listener);
    this.folder[Symbol.dispose]();
  }
}

async function begin(script: Script, undo: DisposableStack, options: Partial<VhostNetOptions> = {}) {
  const device = undo.use(await VhostNetDevice.connect({ server: { path: script.path }, mac: MAC, ...options }));
  const file = undo.use(new Eventfd());
  const guest = new TestGuest(device, { file: { fd: file.fd, address: 0x7000_0000_0000 } });
  return { device, guest };
}

const words = ({ payload }: Heard) =>
  Array.from({ length: payload.byteLength / 4 }, (_, at) => payload.getUint32(at * 4, true));

test("a back end is told the memory and the rings, and gives them back", async () => {
  using undo = new DisposableStack();
  const script = undo.use(new Script());
  const { device, guest } = await begin(script, undo, { pairs: 2, mtu: 1400 });
  assert.deepEqual(
    (await script.until("NET_SET_MTU")).map(({ name }) => name),
    [
      ...["GET_FEATURES", "GET_PROTOCOL_FEATURES", "SET_PROTOCOL_FEATURES", "GET_QUEUE_NUM", "SET_OWNER"],
      "NET_SET_MTU",
    ],
  );
  guest.start(64);
  assert.equal(guest.features & (Feature.RING_PACKED | Feature.INDIRECT_DESC | NetFeature.CSUM), 0n);
  const told = await script.until("SET_VRING_ENABLE", 4);
  const ring = ["SET_VRING_NUM", "SET_VRING_BASE", "SET_VRING_ADDR", "SET_VRING_CALL", "SET_VRING_KICK"];
  const rings = [0, 1, 2, 3].flatMap(() => ring);
  assert.deepEqual(
    told.map(({ name }) => name),
    ["SET_FEATURES", "SET_MEM_TABLE", ...rings, ...Array(4).fill("SET_VRING_ENABLE")],
  );
  assert.equal(told[0]!.payload.getBigUint64(0, true), FEATURES);
  assert.deepEqual(words(told[1]!), [1, 0, 0, 0, 0x100000, 0, 0, 0x7000, 0, 0]);
  assert.equal(told[1]!.descriptors.length, 1);
  const { descriptors, driver, device: used } = guest.rings[1]!.areas;
  assert.deepEqual(words(told[7]!), [1, 64]);
  assert.deepEqual(words(told[9]!), [1, 0, descriptors, 0x7000, used, 0x7000, driver, 0x7000, 0, 0]);
  assert.deepEqual(told.slice(-4).map(words), [
    [0, 1],
    [1, 1],
    [2, 0],
    [3, 0],
  ]);
  const [call, kick] = [10, 11].map((at) => undo.use(new Eventfd(told[at]!.descriptors[0]!)));

  // A ring of the driver's arrives there, one of its own with the driver; what was written is told.
  kick!.take();
  const buffer = guest.room(100);
  guest.send(1, [buffer]);
  assert.equal(kick!.take(), 1);
  const area = used;
  guest.view.setUint32(area + 4, 0, true);
  guest.view.setUint32(area + 8, 60, true);
  guest.view.setUint16(area + 2, 1, true);
  const interrupt = guest.interrupt();
  call!.signal();
  await interrupt;
  assert.deepEqual(guest.rings[1]!.take(), [{ token: 0, length: 60 }]);
  assert.deepEqual(guest.written.at(-1), [buffer.gpa, 60]);

  // The driver takes its other pair into use.
  const answer = guest.room(1);
  await guest.request(4, [guest.give([Control.MQ, 0, 2, 0]), answer]);
  assert.deepEqual((await script.until("SET_VRING_ENABLE", 4)).map(words).at(-1), [3, 1]);

  // Paused, it has nothing; it goes on where it said that it was.
  await guest.transport.pause();
  const stopped = await script.until("GET_VRING_BASE", 4);
  assert.deepEqual(stopped.map(({ name }) => name).slice(-4), Array(4).fill("GET_VRING_BASE"));
  const saved = { transport: guest.transport.save(), device: device.save() };
  guest.transport.resume();
  const again = await script.until("SET_VRING_ENABLE", 4);
  const bases = again.filter(({ name }) => name === "SET_VRING_BASE").map(words);
  assert.deepEqual(
    bases,
    [0, 1, 2, 3].map((queue) => [queue, 7]),
  );
  for (const { descriptors: fds } of [...told.slice(0, 10), ...told.slice(12), ...again]) fds.forEach(close);

  // Another machine goes on with it.
  await guest.transport.close();
  device[Symbol.dispose]();
  const options = { server: { path: script.path }, mac: MAC, pairs: 2, mtu: 1400 };
  const second = undo.use(await VhostNetDevice.connect(options, saved.device));
  const file = { fd: 0, address: 0x7000_0000_0000 };
  const successor = new TestGuest(second, { saved: saved.transport, from: guest, file });
  script.heard.length = 0;
  successor.transport.resume();
  const restored = await script.until("SET_VRING_ENABLE", 4);
  assert.deepEqual(restored.filter(({ name }) => name === "SET_VRING_BASE").map(words)[1], [1, 7]);
  assert.deepEqual(words(restored.at(-1)!), [3, 1]);
  for (const { descriptors: fds } of restored) fds.forEach(close);
  await successor.transport.close();
});

test("pairs that the driver takes into use while the rings are being handed over are used", async () => {
  using undo = new DisposableStack();
  const script = undo.use(new Script());
  script.held.add("SET_MEM_TABLE");
  const { guest } = await begin(script, undo, { pairs: 2 });
  guest.start(64);
  const begun = await script.until("SET_MEM_TABLE");
  await guest.request(4, [guest.give([Control.MQ, 0, 2, 0]), guest.room(1)]);
  script.say(Request.SET_MEM_TABLE, [0n]);
  const rest = [...(await script.until("SET_VRING_ENABLE", 8))];
  const enabled = rest.filter(({ name }) => name === "SET_VRING_ENABLE").map(words);
  assert.deepEqual(
    new Map(enabled.map(([queue, on]) => [queue!, on!])),
    new Map([0, 1, 2, 3].map((queue) => [queue, 1])),
  );
  // None before its ring is there.
  assert.equal(
    rest.slice(0, 20).some(({ name }) => name === "SET_VRING_ENABLE"),
    false,
  );
  for (const { descriptors } of [...begun, ...rest]) descriptors.forEach(close);
  await guest.transport.close();
});

test("an answer that is none, or none at all, is the end of the connection and not of the machine", async (t) => {
  for (const [name, answer, message] of [
    ["GET_FEATURES", [FEATURES, 0n], /an answer of 16 bytes to request 1$/],
    ["GET_FEATURES", [], /an answer of 0 bytes to request 1$/],
    ["GET_FEATURES", [NetFeature.MRG_RXBUF], /knows only the virtio before version 1$/],
    ["GET_QUEUE_NUM", [1n], /2 queues in each direction, and who listens there serves 1$/],
  ] as const) {
    using undo = new DisposableStack();
    const script = undo.use(new Script());
    script.answers[name] = answer;
    await assert.rejects(begin(script, undo, { pairs: 2 }), { message });
  }

  for (const spoil of ["size", "request", "silence", "refusal"] as const) {
    using undo = new DisposableStack();
    const script = undo.use(new Script());
    const { promise, resolve } = Promise.withResolvers<string>();
    const { device, guest } = await begin(script, undo, { onTrouble: resolve });
    guest.start();
    for (const { descriptors } of await script.until("SET_VRING_ENABLE", 2)) descriptors.forEach(close);
    assert.equal(device.config[Config.STATUS], 1);
    const expected = {
      size: /no answer \(request 11, 4294967295 bytes\)/,
      request: /no answer \(request 99, 8 bytes\)/,
      silence: /it does not answer/,
      refusal: /it refused request 5/,
    }[spoil];
    if (spoil === "refusal") {
      script.answers.SET_MEM_TABLE = [1n];
      device.setLink(false);
      await script.until("GET_VRING_BASE", 2);
      device.setLink(true);
    } else {
      t.mock.timers.enable({ apis: ["setTimeout"] });
      delete script.answers.GET_VRING_BASE;
      const stopped = guest.transport.pause();
      await script.until("GET_VRING_BASE", 2);
      if (spoil === "size") script.say(Request.GET_VRING_BASE, [0n], 0xffffffff);
      else if (spoil === "request") script.say(99, [0n]);
      else t.mock.timers.tick(10_000);
      await stopped;
      t.mock.timers.reset();
    }
    assert.match(await promise, expected);
    assert.equal(device.config[Config.STATUS], 0, "the cable is unplugged");
    await guest.transport.close();
  }
});

test("memory that nobody else can have is refused, and rings that are nonsense go to nobody", async () => {
  using undo = new DisposableStack();
  const script = undo.use(new Script());
  const device = undo.use(await VhostNetDevice.connect({ server: { path: script.path }, mac: MAC }));
  assert.throws(() => new TestGuest(device), { code: "DEVICE_CONFIGURATION", message: /memory is not shared/ });

  const second = await begin(script, undo);
  second.guest.negotiate();
  second.guest.enableQueue(0);
  second.guest.setCommon(0x16, 2, 1);
  second.guest.setCommon(0x20, 4, 0xffff_0000);
  second.guest.setCommon(0x1c, 2, 1);
  second.guest.status = second.guest.status | 4;
  const told = await script.until("SET_VRING_ENABLE");
  assert.deepEqual(
    told.filter(({ name }) => name === "SET_VRING_ADDR").map((one) => words(one)[0]),
    [0],
  );
  for (const { descriptors } of told) descriptors.forEach(close);
  assert.match(second.guest.failures[0]!, /queue 1: rings that are not in RAM/);
  await second.guest.transport.close();
});
