import assert from "node:assert/strict";
import { test } from "node:test";
import { TestGuest, TRANSITIONAL_KINDS } from "../testing/guest.ts";
import { ConsoleDevice, type ConsoleOptions } from "./console.ts";
import { CONTROL_TO_DEVICE, CONTROL_TO_DRIVER, ConsoleFeature, ControlEvent } from "./layout.ts";
import { MOST_PENDING } from "./port.ts";

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const bytes = (string: string) => new TextEncoder().encode(string);

function consoleOf(received: string[], more: Partial<ConsoleOptions["ports"][number]> = {}) {
  return new ConsoleDevice({
    ports: [
      { console: true, onData: (data) => void received.push(text(data)), ...more },
      {
        name: "org.lodge.agent",
        onData: (data) => void received.push(`agent ${text(data)}`),
        onOpen: (open) => received.push(`agent ${open ? "opened" : "closed"}`),
      },
    ],
    columns: 132,
    rows: 43,
  });
}

function control(guest: TestGuest, port: number, event: number, value: number): void {
  const view = new DataView(new ArrayBuffer(8));
  view.setUint32(0, port, true);
  view.setUint16(4, event, true);
  view.setUint16(6, value, true);
  guest.send(CONTROL_TO_DEVICE, [guest.give(new Uint8Array(view.buffer))]);
  guest.rings[CONTROL_TO_DEVICE]!.take();
}

/** Buffers for control messages; returns what came so far as "port event value rest". */
function controlBuffers(guest: TestGuest, count: number) {
  const rooms = Array.from({ length: count }, () => guest.room(64));
  const byToken = new Map(rooms.map((room) => [guest.send(CONTROL_TO_DRIVER, [room]), room]));
  return () =>
    guest.rings[CONTROL_TO_DRIVER]!.take().map(({ token, length }) => {
      const message = guest.bytes(byToken.get(token)!);
      const view = new DataView(message.buffer, 0, length);
      const rest = message.subarray(8, length);
      const event = view.getUint16(4, true);
      const shown = event === ControlEvent.PORT_NAME ? text(rest) : rest.join();
      return `${view.getUint32(0, true)} ${event} ${view.getUint16(6, true)} ${shown}`.trim();
    });
}

for (const { name, features } of TRANSITIONAL_KINDS) {
  test(`a terminal without ports, both ways, over ${name}`, async () => {
    const received: string[] = [];
    const device = consoleOf(received);
    const guest = new TestGuest(device, { features: features & ~ConsoleFeature.MULTIPORT }).start();
    guest.send(1, [guest.give(bytes("Linux ")), guest.give(bytes("version"))]);
    assert.equal(received.join(""), "Linux version");
    assert.equal(device.ports[0]!.send(bytes("uname -a\n")), 9);
    const [one, two] = [guest.room(4), guest.room(100)];
    guest.send(0, [one]);
    guest.send(0, [two]);
    const used = guest.rings[0]!.take();
    assert.deepEqual(
      used.map(({ length }) => length),
      [4, 5],
    );
    assert.equal(text(guest.bytes(one)) + text(guest.bytes(two).subarray(0, 5)), "uname -a\n");
  });
}

test("ports are announced, named, opened and closed", () => {
  const received: string[] = [];
  const device = consoleOf(received);
  const guest = new TestGuest(device).start();
  const heard = controlBuffers(guest, 16);
  control(guest, 0, ControlEvent.DEVICE_READY, 1);
  assert.deepEqual(heard(), ["0 1 0", "1 1 0"]);
  control(guest, 0, ControlEvent.PORT_READY, 1);
  assert.deepEqual(heard(), ["0 4 1", `0 5 0 ${SIZE}`, "0 6 1"]);
  control(guest, 1, ControlEvent.PORT_READY, 1);
  assert.deepEqual(heard(), ["1 7 1 org.lodge.agent"]);
  device.ports[1]!.connect(true);
  assert.deepEqual(heard(), ["1 6 1"]);

  device.ports[1]!.send(bytes("ping"));
  const room = guest.room(16);
  guest.send(4, [room]);
  assert.deepEqual(guest.rings[4]!.take(), [], "the guest has not opened it yet");
  control(guest, 1, ControlEvent.PORT_OPEN, 1);
  assert.deepEqual(
    guest.rings[4]!.take().map(({ length }) => length),
    [4],
  );
  guest.send(5, [guest.give(bytes("pong"))]);
  control(guest, 1, ControlEvent.PORT_OPEN, 0);
  assert.deepEqual(received, ["agent opened", "agent pong", "agent closed"]);

  device.ports[1]!.connect(false);
  device.resize(100, 30);
  assert.deepEqual(heard(), ["1 6 0", "0 5 0 100,0,30,0"]);
  assert.equal(guest.registers.read("device", 0, 4), 100 | (30 << 16));
});

/** 132 columns, 43 rows. */
const SIZE = "132,0,43,0";

test("control messages wait for buffers, and nonsense is passed over", () => {
  const guest = new TestGuest(consoleOf([])).start();
  for (let round = 0; round < 1000; round++) {
    control(guest, 0, ControlEvent.DEVICE_READY, 1);
    control(guest, round % 3, round % 8, 1);
  }
  guest.send(CONTROL_TO_DEVICE, [guest.give([1, 2, 3])]);
  const heard = controlBuffers(guest, 1);
  assert.deepEqual(heard(), ["0 1 0"]);
  assert.deepEqual(controlBuffers(guest, 3)().length, 3);
  assert.deepEqual(guest.failures, []);
});

test("what the host sends waits, up to a bound, and the host hears of room", () => {
  let drained = 0;
  const device = consoleOf([], { onDrain: () => drained++ });
  const guest = new TestGuest(device, { features: ~ConsoleFeature.MULTIPORT }).start();
  const port = device.ports[0]!;
  assert.equal(port.send(new Uint8Array(MOST_PENDING - 10)), MOST_PENDING - 10);
  assert.equal(port.send(new Uint8Array(100)), 10);
  assert.equal(port.send(new Uint8Array(1)), 0);
  assert.equal(drained, 0);
  guest.send(0, [guest.room(4096)]);
  assert.equal(drained, 1);
  assert.equal(port.send(new Uint8Array(5000)), 4096);
});

test("a sink that is full gets the rest when it resumes", () => {
  const received: string[] = [];
  let room = 1;
  const device = consoleOf([], { onData: (data) => received.push(`${data.length}`) < room });
  const guest = new TestGuest(device, { features: ~ConsoleFeature.MULTIPORT }).start();
  guest.send(1, [guest.give(new Uint8Array(100_000)), guest.give(new Uint8Array(50_000))]);
  guest.send(1, [guest.give(new Uint8Array(7))]);
  assert.deepEqual(received, ["65536"]);
  assert.equal(guest.rings[1]!.take().length, 0);
  room = 3;
  device.ports[0]!.resume();
  assert.deepEqual(received, ["65536", "65536", "18928"]);
  assert.equal(guest.rings[1]!.take().length, 1);
  room = 10;
  device.ports[0]!.resume();
  assert.deepEqual(received.slice(3), ["7"]);
});

test("saved and constructed, it goes on where it was", async () => {
  const device = consoleOf([]);
  const guest = new TestGuest(device).start();
  control(guest, 0, ControlEvent.DEVICE_READY, 1);
  control(guest, 1, ControlEvent.PORT_OPEN, 1);
  device.ports[1]!.send(bytes("waits"));
  await guest.transport.pause();
  device.ports[1]!.send(bytes(" still"));
  const [transport, state] = JSON.parse(JSON.stringify([guest.transport.save(), device.save()]));
  const options = { ports: device.ports.map(({ options }) => options) };
  const second = new ConsoleDevice(options, state);
  const restored = new TestGuest(second, { saved: transport, from: guest });
  restored.transport.resume();
  const room = restored.room(64);
  restored.send(4, [room]);
  assert.equal(text(restored.bytes(room).subarray(0, 11)), "waits still");
  assert.throws(
    () => new ConsoleDevice({ ports: options.ports.slice(1) }, state),
    /ports has 2, and this device has 1/,
  );
  const [first, agent] = state.ports;
  const broken = { ...state, ports: [first, { ...agent, pending: "?" }] };
  assert.throws(() => new ConsoleDevice(options, broken), /virtio-console: ports\.1\.pending is "\?", not up to 65536/);
});

test("impossible settings are refused", () => {
  const port = { onData: () => undefined };
  assert.throws(() => new ConsoleDevice({ ports: [] }), /a console of 0 ports/);
  assert.throws(() => new ConsoleDevice({ ports: [{ ...port, name: "x".repeat(256) }] }), /has not 1 to 255 bytes/);
});

test("the end of file comes behind what was sent, and a close behind what the guest sent", () => {
  const received: string[] = [];
  let room = true;
  const device = new ConsoleDevice({
    ports: [
      { console: true, onData: () => true },
      {
        connected: true,
        onData: (data) => {
          received.push(text(data));
          return room;
        },
        onOpen: (open) => received.push(open ? "opened" : "closed"),
      },
    ],
  });
  const guest = new TestGuest(device).start();
  const heard = controlBuffers(guest, 16);
  control(guest, 0, ControlEvent.DEVICE_READY, 1);
  control(guest, 1, ControlEvent.PORT_READY, 1);
  control(guest, 1, ControlEvent.PORT_OPEN, 1);
  heard();
  const port = device.ports[1]!;
  port.send(bytes("input"));
  port.end();
  assert.deepEqual(heard(), [], "the guest has not read it all");
  guest.send(4, [guest.room(3)]);
  assert.deepEqual(heard(), []);
  guest.send(4, [guest.room(3)]);
  assert.deepEqual(heard(), ["1 6 0"]);

  room = false;
  guest.send(5, [guest.give(bytes("one"))]);
  guest.send(5, [guest.give(bytes("two"))]);
  control(guest, 1, ControlEvent.PORT_OPEN, 0);
  assert.deepEqual(received, ["opened", "one"]);
  room = true;
  port.resume();
  assert.deepEqual(received, ["opened", "one", "two", "closed"]);

  port.connect(true);
  port.send(bytes("for nobody"));
  port.discard();
  port.end();
  assert.deepEqual(heard(), ["1 6 1", "1 6 0"]);
});

test("what the guest takes at once makes room within one send, and nobody is told of it meanwhile", () => {
  const port: { now?: ConsoleDevice["ports"][number] } = {};
  let sent = 0;
  const data = Uint8Array.from({ length: 3 * MOST_PENDING }, (_, index) => index * 7);
  const send = () => {
    sent += port.now!.send(data.subarray(sent));
  };
  const device = new ConsoleDevice({ ports: [{ console: true, onData: () => true, onDrain: send }] });
  const guest = new TestGuest(device, { features: ~ConsoleFeature.MULTIPORT & 0xffn }).start();
  port.now = device.ports[0]!;
  const first = [guest.room(MOST_PENDING), guest.room(1000)];
  for (const room of first) guest.send(0, [room]);
  send();
  assert.equal(sent, 2 * MOST_PENDING + 1000);
  const second = [guest.room(MOST_PENDING), guest.room(MOST_PENDING)];
  for (const room of second) guest.send(0, [room]);
  assert.equal(sent, data.length);
  const lengths = guest.rings[0]!.take().map(({ length }) => length);
  const got = [...first, ...second].map((room, index) => guest.bytes(room).subarray(0, lengths[index]));
  assert.deepEqual(Buffer.concat(got), Buffer.from(data));
});
