/**
 * Frames that no guest should send: whatever comes, nothing is thrown, nothing grows, and nothing reaches the host that the
 * guest may not reach. All in memory, but for the sockets that a guest may have.
 */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { before, suite, test } from "node:test";
import { command, enterOwnNetwork, noNetworks } from "../../testing/namespaces.ts";
import { ManualClock, Script } from "../../testing/script.ts";
import { addWords, checksumOf, pseudoHeader } from "../packet/checksum.ts";
import { putU16 } from "../packet/ethernet.ts";
import { putIp } from "../packet/ip.ts";
import { putTcp, TcpFlag } from "../packet/tcp.ts";
import { Nat } from "./nat.ts";

const CASES = process.env.LODGE_LONG ? 2_000_000 : 100_000;
const MAC = Uint8Array.of(0x52, 0x55, 10, 0, 2, 2);
const GUEST_MAC = Uint8Array.of(0x52, 0x54, 0, 0x12, 0x34, 0x56);
const GUEST = Uint8Array.of(10, 0, 2, 15);
const GUEST6 = Uint8Array.of(0xfd, 0, 0, 0x10, 0, 0, 0, 2, ...new Uint8Array(7), 9);

function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** An IP packet in a frame, with right checksums; `protocol` says where the payload's is. */
function packet(source: Uint8Array, destination: Uint8Array, protocol: number, payload: Uint8Array): Uint8Array {
  const at = source.length === 4 ? 34 : 54;
  const frame = new Uint8Array(at + payload.length);
  frame.set(MAC);
  frame.set(GUEST_MAC, 6);
  frame.set(source.length === 4 ? [8, 0] : [0x86, 0xdd], 12);
  putIp(frame, 14, { source, destination, protocol, length: payload.length });
  frame.set(payload, at);
  const field = { 1: 2, 6: 16, 17: 6, 58: 2 }[protocol];
  if (field !== undefined && field + 2 <= payload.length) {
    putU16(frame, at + field, 0);
    const sum = protocol === 1 ? 0 : pseudoHeader(source, destination, protocol, payload.length);
    putU16(frame, at + field, checksumOf(addWords(frame, at, frame.length, sum)));
  }
  return frame;
}

function syn(destination: Uint8Array, sourcePort: number, port: number): Uint8Array {
  const payload = new Uint8Array(20);
  const head = {
    sequence: sourcePort * 7,
    acknowledgement: 0,
    flags: TcpFlag.SYN,
    window: 1000,
    options: new Uint8Array(0),
  };
  putTcp(payload, 0, { sourcePort, destinationPort: port, ...head });
  return packet(GUEST, destination, 6, payload);
}

test("20,000 segments by chance: what is passed on is what was sent, in its order", () => {
  const next = random(42);
  const letter = (at: number) => 97 + (((at % 26) + 26) % 26);
  for (let round = 0; round < 200; round++) {
    const script = new Script().establish(next(2) === 0 ? 65535 : next(3000));
    script.far.takes = next(2) === 0 ? Number.POSITIVE_INFINITY : next(5000);
    for (let count = 0; count < 100; count++) {
      const sequence = next(10) === 0 ? next(2 ** 32) : next(20_000) - 100;
      const data = Buffer.from(
        Array.from({ length: next(3) === 0 ? next(1460) : 0 }, (_, at) => letter(sequence + at)),
      );
      const flags = next(50) === 0 ? next(64) : TcpFlag.ACK;
      const sack = next(4) === 0 ? [{ from: next(2 ** 32), to: next(2 ** 32) }] : [];
      script.guest(sequence, next(3) === 0 ? next(6000) : 1, flags, data.toString(), { window: next(65536), sack });
      if (next(5) === 0) script.far.sends = Buffer.alloc(next(8000), "w");
      if (next(7) === 0) script.far.takes += next(4000);
      script.connection.ready();
      if (next(9) === 0) script.clock.pass(next(3000));
      script.heard();
      assert.ok(script.connection.heldBytes < 2 ** 21);
    }
    const expected = Buffer.from(Array.from({ length: script.far.received.length }, (_, at) => letter(at + 1)));
    assert.ok(script.far.received.equals(expected), `round ${round}`);
    script.connection.drop();
    assert.equal(script.clock.timers, 0);
  }
});

suite("a hostile guest", { skip: noNetworks }, () => {
  before(() => {
    enterOwnNetwork();
    // Packets to this network go nowhere, and nobody answers.
    command("ip", "link", "add", "nowhere", "type", "veth", "peer", "name", "void");
    command("ip", "link", "set", "void", "up");
    command("ip", "address", "add", "198.18.0.1/24", "dev", "nowhere");
    command("ip", "link", "set", "nowhere", "up");
  });

  test(`${CASES} frames: no exception, no growth, no more sockets than there may be`, () => {
    const clock = new ManualClock();
    using nat = new Nat({ clock, restrict: true, resolvers: () => ({ servers: [], search: [] }) });
    nat.connect({ takes: { checksum: true, tcp4: true, tcp6: true }, receive: () => true });
    const next = random(20_261_126);
    const bytes = (length: number) => Uint8Array.from({ length }, () => next(256));
    const destinations = [
      ...[
        [10, 0, 2, 2],
        [10, 0, 2, 3],
        [255, 255, 255, 255],
        [127, 0, 0, 1],
        [8, 8, 8, 8],
        [224, 0, 0, 1],
      ],
      ...[
        [0xfd, 0, 0, 0x10, 0, 0, 0, 2, ...Array(7).fill(0), 2],
        [0xfd, 0, 0, 0x10, 0, 0, 0, 2, ...Array(7).fill(0), 3],
      ],
      ...[
        [0xff, 2, ...Array(13).fill(0), 1],
        [0xfe, 0x80, ...Array(13).fill(0), 2],
        [0x20, 1, ...Array(14).fill(1)],
      ],
    ].map((address) => Uint8Array.from(address));
    const ports = [53, 67, 547, 80];
    const make = (): Uint8Array => {
      const destination = destinations[next(destinations.length)]!;
      const source = destination.length === 4 ? (next(8) === 0 ? new Uint8Array(4) : GUEST) : GUEST6;
      const protocol = [1, 6, 17, 58, 44, 0, 60][next(7)]!;
      const payload = bytes(next(4) === 0 ? next(1400) : next(120));
      if (protocol === 17 && payload.length >= 8) {
        putU16(payload, 2, ports[next(4)]!);
        putU16(payload, 4, payload.length);
        // A message of DHCP's form with options by chance.
        if (payload.length > 244) payload.set([1, 1, 6, 0], 8);
        if (payload.length > 252) payload.set([0x63, 0x82, 0x53, 0x63, 53, 1, 1 + next(8)], 8 + 236);
      }
      if (protocol === 6 && payload.length >= 20) payload[12] = (5 + next(11)) << 4;
      if ((protocol === 1 || protocol === 58) && payload.length > 2) payload[0] = [8, 128, 133, 135, 136][next(5)]!;
      return packet(source, destination, protocol, payload);
    };
    const startBytes = process.memoryUsage().rss;
    for (let count = 0; count < CASES; count++) {
      const kind = next(8);
      let frame = kind === 0 ? bytes(next(200)) : make();
      if (kind === 1) frame = frame.subarray(0, next(frame.length + 1));
      // Some bits of a good frame turned, with its first checksum mended or not.
      if (kind >= 2 && kind <= 4)
        for (let turns = 0; turns <= next(4); turns++) frame[next(frame.length)]! ^= 1 << next(8);
      if (kind === 4 && frame.length > 34 && frame[12] === 8) {
        putU16(frame, 24, 0);
        putU16(frame, 24, checksumOf(addWords(frame, 14, 34)));
      }
      const start = next(60);
      const offload =
        next(6) === 0 && start + 18 <= frame.length ? { checksum: { start, offset: next(16) } } : undefined;
      nat.transmit(frame, offload);
      if (count % 1000 === 0) clock.pass(100);
    }
    const status = nat.status;
    assert.ok(status.sockets === 0 && status.tcp <= 512 && status.fragments <= 32, JSON.stringify(status));
    const grownMib = (process.memoryUsage().rss - startBytes) / 2 ** 20;
    assert.ok(grownMib < 150, `${grownMib} MiB more`);
    clock.pass(1e6);
    assert.equal(nat.status.tcp, 0);
  });

  test("a flood of SYNs is bounded, and passes", () => {
    const clock = new ManualClock();
    using nat = new Nat({ clock });
    nat.connect({ takes: { checksum: true, tcp4: true, tcp6: true }, receive: () => true });
    const descriptors = () => readFileSync("/proc/self/net/sockstat", "utf8").match(/TCP: inuse (\d+)/)![1]!;
    const before = Number(descriptors());
    const target = Uint8Array.of(198, 18, 0, 9);
    for (let count = 0; count < 20_000; count++) nat.transmit(syn(target, 1024 + (count % 60_000), 80));
    const { tcp, sockets, refusedSyns } = nat.status;
    assert.deepEqual([tcp, sockets, refusedSyns], [512, 512, 20_000 - 512]);
    assert.ok(Number(descriptors()) - before <= 512);
    nat.reset();
    assert.deepEqual([nat.status.tcp, nat.status.sockets], [0, 0]);
  });

  test("no frame reaches the host's own addresses, nor anything where there is no way out", () => {
    const clock = new ManualClock();
    for (const restrict of [false, true]) {
      using nat = new Nat({ clock, restrict });
      nat.connect({ takes: { checksum: true, tcp4: true, tcp6: true }, receive: () => true });
      const hidden = [
        "127.0.0.1",
        "127.255.0.1",
        "0.0.0.0",
        "10.0.2.2",
        "169.254.169.254",
        "224.0.0.1",
        "255.255.255.255",
      ];
      for (const text of restrict ? [...hidden, "198.18.0.1", "8.8.8.8"] : hidden) {
        const address = Uint8Array.from(text.split("."), Number);
        nat.transmit(syn(address, 2000, 80));
        nat.transmit(packet(GUEST, address, 17, Uint8Array.of(0x20, 0, 0, 9, 0, 8, 0, 0)));
        nat.transmit(packet(GUEST, address, 1, Uint8Array.of(8, 0, 0, 0, 0, 1, 0, 1)));
        assert.equal(nat.status.sockets, 0, text);
      }
      // Nor may a guest send as somebody else.
      nat.transmit(
        packet(Uint8Array.of(198, 18, 0, 1), Uint8Array.of(198, 18, 0, 9), 17, Uint8Array.of(0, 9, 0, 9, 0, 8, 0, 0)),
      );
      assert.equal(nat.status.sockets, 0);
    }
  });
});
