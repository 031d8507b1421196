import assert from "node:assert/strict";
import { test } from "node:test";
import { finishChecksum, type GuestSide, type Offload, type PacketPort, VnetHeader } from "@lodge/network";
import { Feature } from "../device.ts";
import { TestGuest, TRANSITIONAL_KINDS } from "../testing/guest.ts";
import { Config, Control, NetFeature } from "./layout.ts";
import { NetDevice } from "./net.ts";

const MAC = "52:54:00:12:34:56";

/** The other end of the cable. */
class Port implements PacketPort {
  readonly takesOffloads: boolean;
  readonly givesOffloads: boolean;
  readonly hasLargeDatagrams: boolean;
  readonly frames: { frame: Uint8Array; offload: Offload | undefined }[] = [];
  guest!: GuestSide;
  rooms = 0;
  constructor(offloads = true) {
    this.takesOffloads = offloads;
    this.givesOffloads = offloads;
    this.hasLargeDatagrams = offloads;
  }
  transmit(frame: Uint8Array, offload?: Offload): void {
    this.frames.push({ frame: frame.slice(), offload });
  }
  connect(guest: GuestSide): void {
    this.guest = guest;
  }
  room(): void {
    this.rooms += 1;
  }
}

/** An Ethernet frame to an address; its bytes count up. */
function frameTo(to: string, length = 60, vlan?: number): Uint8Array {
  const frame = Uint8Array.from({ length }, (_, at) => at);
  frame.set(to.split(":").map((byte) => Number.parseInt(byte, 16)));
  frame.set(vlan === undefined ? [8, 0] : [0x81, 0, vlan >> 8, vlan & 0xff], 12);
  return frame;
}

function header(fields: Partial<Record<keyof typeof VnetHeader, number>> = {}): Uint8Array {
  const view = new DataView(new ArrayBuffer(VnetHeader.LENGTH));
  for (const [name, value] of Object.entries(fields)) {
    const offset = VnetHeader[name as keyof typeof VnetHeader];
    if (offset < 2) view.setUint8(offset, value);
    else view.setUint16(offset, value, true);
  }
  return new Uint8Array(view.buffer);
}

function start(port: Port, features = -1n, pairs = 1) {
  const device = new NetDevice({ port, mac: MAC, mtu: 1400, pairs });
  return { device, guest: new TestGuest(device, { features }).start() };
}

async function command(guest: TestGuest, kind: number, number: number, data: number[], queue = 2): Promise<number> {
  const answer = guest.room(1);
  await guest.request(queue, [guest.give([kind, number]), guest.give(data), answer]);
  return guest.bytes(answer)[0]!;
}

for (const { name, features } of TRANSITIONAL_KINDS) {
  test(`frames go both ways over ${name}`, () => {
    const port = new Port();
    const { guest } = start(port, features);
    const sent = frameTo("52:54:00:00:00:01", 1000);
    guest.send(1, [guest.give(header()), guest.give(sent.subarray(0, 14)), guest.give(sent.subarray(14))]);
    assert.deepEqual(port.frames, [{ frame: sent, offload: undefined }]);
    assert.equal(guest.rings[1]!.take().length, 1);

    const room = guest.room(1600);
    guest.send(0, [room]);
    const received = frameTo(MAC, 1200);
    assert.equal(port.guest.receive(received), true);
    assert.equal(guest.rings[0]!.take()[0]!.length, VnetHeader.LENGTH + 1200);
    const bytes = guest.bytes(room);
    assert.deepEqual(bytes.subarray(0, 12), header({ NUM_BUFFERS: 1 }));
    assert.deepEqual(bytes.subarray(12, 1212), received);
  });
}

test("a frame is spread over small buffers, or waits when there are too few", () => {
  const port = new Port();
  const { guest } = start(port);
  const rooms = [guest.room(100), guest.room(500)];
  for (const room of rooms) guest.send(0, [room]);
  const frame = frameTo(MAC, 1000);
  assert.equal(port.guest.receive(frame), false);
  assert.equal(guest.rings[0]!.take().length, 0);
  assert.equal(port.rooms, 0);
  const last = guest.room(1000);
  guest.send(0, [last]);
  assert.equal(port.rooms, 1);
  assert.equal(port.guest.receive(frame), true);
  assert.deepEqual(
    guest.rings[0]!.take().map(({ length }) => length),
    [100, 500, 412],
  );
  assert.deepEqual(guest.bytes(rooms[0]!).subarray(0, 12), header({ NUM_BUFFERS: 3 }));
  const pieces = [...rooms, last].map((room) => guest.bytes(room));
  assert.deepEqual([...pieces[0]!.subarray(12), ...pieces[1]!, ...pieces[2]!.subarray(0, 412)], [...frame]);
});

test("before virtio 1 the header is two bytes shorter where buffers are not mergeable", () => {
  const port = new Port();
  const { guest } = start(port, ~(Feature.VERSION_1 | Feature.RING_PACKED | NetFeature.MRG_RXBUF));
  const sent = frameTo("52:54:00:00:00:01", 100);
  guest.send(1, [guest.give(header().subarray(0, 10)), guest.give(sent)]);
  assert.deepEqual(port.frames, [{ frame: sent, offload: undefined }]);
  const room = guest.room(1524);
  guest.send(0, [room]);
  const received = frameTo(MAC, 700);
  assert.equal(port.guest.receive(received), true);
  assert.equal(guest.rings[0]!.take()[0]!.length, 710);
  assert.deepEqual(guest.bytes(room).subarray(10, 710), received);
});

test("without mergeable buffers one buffer must hold it all", () => {
  const port = new Port();
  const { guest } = start(port, ~NetFeature.MRG_RXBUF);
  guest.send(0, [guest.room(500)]);
  guest.send(0, [guest.room(600)]);
  assert.equal(port.guest.receive(frameTo(MAC, 1000)), false);
  assert.equal(port.guest.receive(frameTo(MAC, 400)), true);
});

test("offloads are told to the port as they were negotiated, and checked", () => {
  const port = new Port();
  const { guest } = start(port);
  const frame = frameTo("52:54:00:00:00:01", 2000);
  const send = (fields: Parameters<typeof header>[0]) => {
    guest.send(1, [guest.give(header(fields)), guest.give(frame)]);
    guest.rings[1]!.take();
    return port.frames.splice(0).map(({ offload }) => offload);
  };
  const checksum = { start: 34, offset: 16 };
  const wanted = { FLAGS: 1, CSUM_START: 34, CSUM_OFFSET: 16 };
  assert.deepEqual(send(wanted), [{ checksum }]);
  assert.deepEqual(send({ ...wanted, GSO_TYPE: 0x81, GSO_SIZE: 1400, HDR_LEN: 54 }), [
    { checksum, segments: { version: 4, size: 1400, headerBytes: 54, congestion: true } },
  ]);
  assert.deepEqual(send({ ...wanted, GSO_TYPE: 3, GSO_SIZE: 1376, HDR_LEN: 42 }), [
    { checksum, fragments: { size: 1376, headerBytes: 42 } },
  ]);
  const { guest: tcpOnly } = start(port, ~NetFeature.HOST_UFO);
  tcpOnly.send(1, [tcpOnly.give(header({ ...wanted, GSO_TYPE: 3, GSO_SIZE: 1376 })), tcpOnly.give(frame)]);
  assert.deepEqual(port.frames, []);
  for (const bad of [
    { ...wanted, CSUM_START: 1999 },
    { ...wanted, CSUM_OFFSET: 65535 },
    { ...wanted, GSO_TYPE: 1, GSO_SIZE: 0 },
    { ...wanted, GSO_TYPE: 4, GSO_SIZE: 1, HDR_LEN: 2001 },
    { ...wanted, GSO_TYPE: 3, GSO_SIZE: 0 },
    { ...wanted, GSO_TYPE: 5, GSO_SIZE: 1400 },
    { GSO_TYPE: 1, GSO_SIZE: 100 },
  ]) {
    assert.deepEqual(send(bad), [], JSON.stringify(bad));
  }
  const { guest: plain } = start(new Port(false));
  assert.equal(plain.features & (NetFeature.CSUM | NetFeature.GUEST_CSUM | NetFeature.HOST_TSO4), 0n);
});

test("what the guest does not take is finished for it", () => {
  const offload: Offload = { checksum: { start: 14, offset: 2 } };
  const frame = frameTo(MAC, 61);
  const finished = frame.slice();
  finishChecksum(finished, offload.checksum!);
  // RFC 1071: with its checksum in place, everything and the pseudo-header sum to all ones.
  let sum = 0;
  for (let at = 14; at < 61; at += 2) sum += (finished[at]! << 8) | (finished[at + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  const before = (frame[16]! << 8) | frame[17]!;
  assert.equal((sum + before) % 0xffff, 0);

  for (const [features, udp] of [
    [-1n, true],
    [~NetFeature.GUEST_UFO, false],
  ] as const) {
    const port = new Port();
    const { guest } = start(port, features);
    assert.equal(port.guest.takes.udp, udp);
    const room = guest.room(200);
    guest.send(0, [room]);
    port.guest.receive(frame.slice(), { ...offload, ...(udp && { fragments: { size: 8, headerBytes: 42 } }) });
    assert.equal(guest.bytes(room)[1], udp ? 3 : 0);
  }

  for (const [features, flags, expected] of [
    [-1n, 1, frame],
    [~NetFeature.GUEST_CSUM, 0, finished],
  ] as const) {
    const port = new Port();
    const { guest } = start(port, features);
    assert.equal(port.guest.takes.checksum, flags === 1);
    const room = guest.room(200);
    guest.send(0, [room]);
    port.guest.receive(frame.slice(), offload);
    assert.equal(guest.bytes(room)[0], flags);
    assert.deepEqual(guest.bytes(room).subarray(12, 73), expected);
  }
});

test("receive modes, addresses and VLANs decide what is received", async () => {
  const port = new Port();
  const { guest } = start(port);
  const gets = (frame: Uint8Array) => {
    guest.send(0, [guest.room(128)]);
    port.guest.receive(frame);
    const got = guest.rings[0]!.take().length === 1;
    return got;
  };
  const [own, other, multicast, broadcast] = [MAC, "52:54:00:00:00:07", "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff"];
  const all = () => [own, other, multicast, broadcast].map((to) => gets(frameTo(to)));
  assert.deepEqual(all(), [true, true, true, true], "everything until the driver says otherwise");
  assert.equal(await command(guest, Control.RX, 0, [0]), 0);
  assert.deepEqual(all(), [true, false, false, true]);
  const table = [1, 0, 0, 0, 0x52, 0x54, 0, 0, 0, 7, 1, 0, 0, 0, 1, 0, 0x5e, 0, 0, 1];
  assert.equal(await command(guest, Control.MAC, 0, table), 0);
  assert.deepEqual(all(), [true, true, true, true]);
  assert.equal(await command(guest, Control.MAC, 0, table.slice(0, 12)), 1, "a table that is not whole");
  assert.equal(await command(guest, Control.MAC, 0, [255, 255, 255, 255, 0]), 1);
  assert.equal(await command(guest, Control.RX, 3, [1]), 0);
  assert.equal(await command(guest, Control.RX, 5, [1]), 0);
  assert.deepEqual(all(), [true, true, false, false]);
  assert.equal(gets(frameTo(own, 60, 100)), false);
  assert.equal(await command(guest, Control.VLAN, 0, [100, 0]), 0);
  assert.equal(gets(frameTo(own, 60, 100)), true);
  assert.equal(await command(guest, Control.VLAN, 1, [100, 0]), 0);
  assert.equal(gets(frameTo(own, 60, 100)), false);
  assert.equal(await command(guest, Control.VLAN, 0, [0, 0x10]), 1);
  assert.equal(await command(guest, Control.MAC, 1, [0x52, 0x54, 0, 0, 0, 9]), 0);
  assert.deepEqual([gets(frameTo(own)), gets(frameTo("52:54:00:00:00:09"))], [false, true]);
  assert.equal(await command(guest, Control.RX, 9, [1]), 1);
  assert.equal(await command(guest, 77, 0, [1]), 1);
});

test("link, announcements and MTU are in the configuration", async () => {
  const port = new Port();
  const { device, guest } = start(port);
  const status = () => guest.registers.read("device", Config.STATUS, 2);
  assert.deepEqual([status(), guest.registers.read("device", Config.MTU, 2)], [1, 1400]);
  device.setLink(false);
  assert.deepEqual([status(), guest.messages.at(-1)], [0, 0]);
  guest.send(1, [guest.give(header()), guest.give(frameTo(MAC))]);
  assert.deepEqual(port.frames, [], "nothing leaves by a cable that is not there");
  device.setLink(true);
  device.announce();
  assert.equal(status(), 3);
  assert.equal(await command(guest, Control.ANNOUNCE, 0, []), 0);
  assert.equal(status(), 1);
});

test("flows keep to their queues, and the control queue is behind them", async () => {
  const port = new Port();
  const { guest } = start(port, -1n, 4);
  assert.equal(guest.registers.read("device", Config.MAX_PAIRS, 2), 4);
  assert.equal(await command(guest, Control.MQ, 0, [4, 0], 8), 0);
  assert.equal(await command(guest, Control.MQ, 0, [5, 0], 8), 1);
  const used = new Set<number>();
  for (const queue of [0, 0, 2, 2, 4, 4, 6, 6]) guest.send(queue, [guest.room(128)]);
  for (let flow = 0; flow < 40; flow++) {
    const frame = frameTo(MAC);
    frame[35] = flow;
    const queues = [0, 1].map(() => {
      assert.equal(port.guest.receive(frame), true);
      const queue = [0, 2, 4, 6].find((one) => guest.rings[one]!.take().length === 1)!;
      guest.send(queue, [guest.room(128)]);
      return queue;
    });
    assert.equal(queues[0], queues[1]);
    used.add(queues[0]!);
  }
  assert.equal(used.size, 4);
  const { guest: single } = start(new Port(), ~NetFeature.MQ, 4);
  assert.equal(await command(single, Control.RX, 0, [1], 2), 0);
});

test("saved and constructed, it goes on where it was", async () => {
  const port = new Port();
  const { device, guest } = start(port, ~Feature.RING_PACKED);
  await command(guest, Control.RX, 0, [0]);
  device.setLink(false);
  await guest.transport.pause();
  assert.equal(port.guest.receive(frameTo(MAC)), true, "the cable is out");
  const [transport, state] = JSON.parse(JSON.stringify([guest.transport.save(), device.save()]));
  const second = new NetDevice({ port, mac: MAC, mtu: 1400 }, state);
  const restored = new TestGuest(second, { saved: transport, from: guest });
  restored.transport.resume();
  second.setLink(true);
  restored.send(0, [restored.room(128)]);
  port.guest.receive(frameTo("52:54:00:00:00:07"));
  assert.equal(restored.rings[0]!.take().length, 0, "not for this address");
  port.guest.receive(frameTo(MAC));
  assert.equal(restored.rings[0]!.take().length, 1);
  assert.throws(() => new NetDevice({ port, mac: MAC }, { ...state, pairs: 0 }), /virtio-net: pairs is 0, not/);
});

test("impossible settings are refused", () => {
  const port = new Port();
  assert.throws(() => new NetDevice({ port, mac: "01:00:00:00:00:00" }), /no MAC address/);
  assert.throws(() => new NetDevice({ port, mac: MAC, mtu: 10 }), /an MTU of 10/);
  assert.throws(() => new NetDevice({ port, mac: MAC, pairs: 0 }), /0 queue pairs/);
});
