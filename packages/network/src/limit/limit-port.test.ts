/** A card's limits, with a clock that is turned by hand. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { ManualClock } from "../../testing/script.ts";
import type { GuestSide, PacketPort } from "../port.ts";
import { type CardLimits, LimitPort } from "./limit-port.ts";

const FRAME = 1000;

/** A cable whose far end always has a frame for the guest. */
class Source implements PacketPort {
  readonly takesOffloads = true;
  readonly givesOffloads = false;
  sent: number[] = [];
  taken = 0;
  #guest: GuestSide | undefined;

  transmit(frame: Uint8Array): void {
    this.sent.push(frame[0]!);
  }

  connect(guest: GuestSide): void {
    this.#guest = guest;
  }

  room(): void {
    while (this.taken < 1_000_000 && this.#guest!.receive(new Uint8Array(FRAME))) this.taken += 1;
  }
}

function bench(limits: CardLimits) {
  const clock = new ManualClock();
  const source = new Source();
  const port = new LimitPort(source, limits, clock);
  let hasRoom = true;
  port.connect({ takes: { checksum: false, tcp4: false, tcp6: false }, receive: () => hasRoom });
  const setRoom = (has: boolean) => {
    hasRoom = has;
    if (has) port.room();
  };
  return { clock, source, port, setRoom };
}

test("what the guest gets: a burst, then the average; never more than the peak", () => {
  const { clock, source, port, setRoom } = bench({ inbound: { average: 100_000, burst: 50_000 } });
  port.room();
  assert.equal(source.taken, 50);
  clock.pass(10_000);
  assert.ok(Math.abs(source.taken - 1050) <= 1, `${source.taken} frames`);
  // Who has no room for a while has a burst then, and no more.
  setRoom(false);
  clock.pass(60_000);
  const before = source.taken;
  setRoom(true);
  assert.ok(source.taken - before <= 51);

  const peaked = bench({ inbound: { average: 100_000, burst: 50_000, peak: 200_000 } });
  peaked.port.room();
  peaked.clock.pass(100);
  assert.ok(peaked.source.taken <= 23, `${peaked.source.taken} frames`);
  peaked.clock.pass(9_900);
  assert.ok(Math.abs(peaked.source.taken - 1050) <= 2, `${peaked.source.taken} frames`);
});

test("what it sends waits in its order, up to a bound, and is lost beyond", () => {
  const { clock, source, port } = bench({ outbound: { average: 100_000, burst: 10_000 } });
  for (let number = 0; number < 1000; number++) port.transmit(new Uint8Array(FRAME).fill(number));
  assert.equal(source.sent.length, 10);
  const kept = 1000 - port.lost;
  assert.equal(kept, 10 + Math.floor(262_144 / FRAME));
  clock.pass(1000);
  assert.ok(Math.abs(source.sent.length - 110) <= 1, `${source.sent.length} frames`);
  clock.pass(10_000);
  assert.deepEqual(
    source.sent,
    Array.from({ length: kept }, (_, number) => number & 0xff),
  );
  assert.equal(clock.timers, 0);

  // Other limits hold at once, for what waits too.
  for (let number = 0; number < 200; number++) port.transmit(new Uint8Array(FRAME));
  port.limit({});
  assert.equal(source.sent.length, kept + 200);
  port[Symbol.dispose]();
  assert.equal(clock.timers, 0);
});

test("a frame longer than a burst goes when nothing went before it for long enough", () => {
  const { clock, source, port } = bench({ outbound: { average: 10_000, burst: 1000 } });
  port.transmit(new Uint8Array(64_000).fill(1));
  port.transmit(new Uint8Array(1000).fill(2));
  assert.deepEqual(source.sent, [1]);
  clock.pass(6_300);
  assert.deepEqual(source.sent, [1]);
  clock.pass(200);
  assert.deepEqual(source.sent, [1, 2]);
});
