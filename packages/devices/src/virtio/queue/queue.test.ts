/** Rings against a driver written from the specification's other half. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { MappedRam } from "../../ram.ts";
import { Random } from "../testing/random.ts";
import { type DriverRing, PackedDriverRing, SplitDriverRing } from "../testing/ring.ts";
import { type Chain, openQueue, type QueueLayout, type QueuePosition, type Virtqueue } from "./index.ts";

const MEMORY = 0x40000;

interface Pair {
  driver: DriverRing;
  device: Virtqueue;
  events: { interrupts: number; later: number; broken: string[] };
  layout: QueueLayout;
  view: DataView;
  reopen(position: QueuePosition): Virtqueue;
}

function pair(size: number, packed: boolean, eventIndex: boolean, indirect = true): Pair {
  const buffer = new SharedArrayBuffer(MEMORY);
  const view = new DataView(buffer);
  const ram = new MappedRam(buffer, [{ gpa: 0, sizeBytes: MEMORY, offset: 0 }]);
  const layout = { size, descriptors: 0x1000, driver: 0x4000, device: 0x6000, packed, eventIndex, indirect };
  let tables = 0x20000;
  const allocate = (length: number) => {
    tables = tables + length > MEMORY ? 0x20000 : tables;
    tables += length;
    return tables - length;
  };
  const driver = new (packed ? PackedDriverRing : SplitDriverRing)(view, layout, layout, allocate);
  const events = { interrupts: 0, later: 0, broken: [] as string[] };
  const reopen = (position?: QueuePosition) => {
    const device = openQueue(
      layout,
      ram,
      {
        interrupt: () => {
          events.interrupts += 1;
        },
        broken: (reason) => events.broken.push(reason),
        later: () => {
          events.later += 1;
        },
      },
      position,
    );
    if (typeof device === "string") throw new Error(device);
    return device;
  };
  return { driver, device: reopen(), events, layout, view, reopen };
}

const KINDS = [false, true].flatMap((packed) =>
  [false, true].map((eventIndex) => ({
    packed,
    eventIndex,
    name: `${packed ? "packed" : "split"}${eventIndex ? ", event index" : ""}`,
  })),
);

for (const { packed, eventIndex, name } of KINDS) {
  test(`whatever both sides do, chains arrive once, in order, and nobody sleeps for ever: ${name}`, () => {
    const random = new Random();
    for (let round = 0; round < 60; round++) {
      const size = packed ? 1 + random.below(9) : random.pick([1, 2, 4, 8]);
      const { driver, device, events } = pair(size, packed, eventIndex);
      const say = `seed ${random.seed}, round ${round}, size ${size}`;
      /** Chains that the driver has added, the device has taken, and the driver waits for. */
      const added: { token: number; bytes: number }[] = [];
      const taken: { chain: Chain; token: number }[] = [];
      const given: number[] = [];
      let deviceSleeps = false;
      let driverSleeps = false;
      const serve = () => {
        deviceSleeps = false;
        device.setNotifications(false);
        for (let chain = device.pop(); chain !== undefined; chain = device.pop()) {
          const { token, bytes } = added.shift()!;
          assert.equal(chain.id, token, say);
          assert.equal(chain.readableBytes + chain.writableBytes, bytes, say);
          taken.push({ chain, token });
          if (random.chance(0.3)) break;
        }
        deviceSleeps = !device.setNotifications(true);
      };
      const collect = () => {
        driverSleeps = false;
        do {
          driver.interrupts(false);
          for (const { token, length } of driver.take()) {
            assert.equal(token, given.shift(), say);
            assert.equal(length, token + 1, say);
          }
        } while (driver.interrupts(true));
        driverSleeps = true;
        assert.equal(given.length, 0, `${say}: everything shown was seen`);
      };
      collect();
      for (let step = 0; step < 400; step++) {
        switch (random.below(3)) {
          case 0: {
            const readable = random.below(3);
            const count = 1 + random.below(4);
            const buffers = Array.from({ length: count }, (_, index) => ({
              gpa: 0x8000 + random.below(0x1000),
              length: random.below(64),
              deviceWrites: index >= readable,
            }));
            const token = driver.add(buffers, random.chance(0.3));
            if (token !== undefined) {
              added.push({ token, bytes: buffers.reduce((sum, { length }) => sum + length, 0) });
            }
            if (driver.wantsNotification()) serve();
            else if (token !== undefined)
              assert.ok(!deviceSleeps || device.inFlight >= size, `${say}: the device sleeps`);
            break;
          }
          case 1:
            if (!deviceSleeps) serve();
            break;
          case 2: {
            const before = events.interrupts;
            const batch = taken.splice(0, random.below(3));
            for (const { chain, token } of batch) {
              device.push(chain, token + 1);
              given.push(token);
            }
            device.publish();
            if (events.interrupts > before) collect();
            else assert.ok(batch.length === 0 || !driverSleeps, `${say}: the driver sleeps`);
            if (batch.length > 0 && deviceSleeps) serve();
          }
        }
      }
      assert.deepEqual(events.broken, [], say);
    }
  });

  test(`the driver sees all chains that are published together, or none: ${name}`, () => {
    // A frame in three buffers is one frame: a driver that sees the first one counts on the others.
    const { driver, device } = pair(4, packed, eventIndex);
    for (let round = 0; round < 9; round++) {
      const tokens = [1, 2, 3].map((length) => driver.add([{ gpa: 0x8000, length, deviceWrites: true }]));
      const chains = tokens.map(() => device.pop()!);
      for (const chain of chains) {
        device.push(chain, chain.writableBytes);
        assert.deepEqual(driver.take(), [], `round ${round}`);
      }
      device.publish();
      const seen = driver.take().map(({ token, length }) => [token, length]);
      assert.deepEqual(
        seen,
        tokens.map((token, index) => [token, index + 1]),
      );
    }
  });

  test(`a ring goes on where it was saved: ${name}`, () => {
    const { driver, device, reopen } = pair(4, packed, eventIndex);
    let current = device;
    for (let round = 0; round < 30; round++) {
      const token = driver.add([{ gpa: 0x8000, length: round, deviceWrites: false }]);
      const again = current.pop()!;
      current.unpop(again);
      const chain = current.pop()!;
      assert.deepEqual([chain.id, chain.readableBytes], [token, round]);
      current.push(chain, 0);
      current.publish();
      assert.equal(driver.take().length, 1);
      current = reopen(current.position);
    }
  });
}

test("a driver that adds for ever is left after a while", () => {
  const { driver, device, events } = pair(4, false, true);
  let served = 0;
  const add = () => driver.add([{ gpa: 0x8000, length: 1, deviceWrites: false }]);
  add();
  device.serve((chain) => {
    served += 1;
    device.push(chain, 0);
    device.publish();
    driver.take();
    add();
  });
  assert.deepEqual([served, events.later], [64, 1]);
});

test("a handler that cannot take a chain gets it again", () => {
  const { driver, device } = pair(4, true, false);
  driver.add([{ gpa: 0x8000, length: 7, deviceWrites: false }]);
  const lengths: number[] = [];
  device.serve((chain) => {
    lengths.push(chain.readableBytes);
    return false;
  });
  device.serve((chain) => {
    lengths.push(chain.readableBytes);
    device.push(chain, 0);
  });
  assert.deepEqual(lengths, [7, 7]);
});

/** What a driver must not do, and what is then said. `put` writes a descriptor: address, length, flags, next or id. */
type Put = (index: number, gpa: number, length: number, flags: number, next?: number) => void;
const NEXT = 1;
const WRITE = 2;
const INDIRECT = 4;
const broken: { name: string; says: RegExp; make(put: Put, view: DataView): void }[] = [
  {
    name: "a head outside the table",
    says: /descriptor 9 in a ring of 4/,
    make: (_, view) => view.setUint16(0x4004, 9, true),
  },
  {
    name: "an available index that jumps",
    says: /available index 5 ahead/,
    make: (_, view) => view.setUint16(0x4002, 5, true),
  },
  { name: "a next outside the table", says: /descriptor 4 in a ring of 4/, make: (put) => put(0, 0x8000, 1, NEXT, 4) },
  { name: "a loop", says: /loop of descriptors/, make: (put) => put(0, 0x8000, 1, NEXT, 0) },
  {
    name: "a buffer outside RAM",
    says: /16 bytes at 0x3fff8, which is not RAM/,
    make: (put) => put(0, 0x3fff8, 16, 0),
  },
  {
    name: "a buffer at the end of addresses",
    says: /which is not RAM/,
    make: (put) => put(0, 2 ** 64 - 2 ** 12, 0xffffffff, WRITE),
  },
  {
    name: "reading behind writing",
    says: /to read behind one to write/,
    make: (put) => {
      put(0, 0x8000, 1, NEXT | WRITE, 1);
      put(1, 0x8000, 1, 0);
    },
  },
  {
    name: "an indirect table of odd length",
    says: /indirect table of 17 bytes/,
    make: (put) => put(0, 0x9000, 17, INDIRECT),
  },
  { name: "an empty indirect table", says: /indirect table of 0 bytes/, make: (put) => put(0, 0x9000, 0, INDIRECT) },
  {
    name: "a huge indirect table",
    says: /indirect table of \d+ bytes/,
    make: (put) => put(0, 0x9000, 0xfffffff0, INDIRECT),
  },
  {
    name: "an indirect table outside RAM",
    says: /table at 0x50000, which/,
    make: (put) => put(0, 0x50000, 16, INDIRECT),
  },
  {
    name: "an indirect table in an indirect table",
    says: /indirect descriptor in an indirect table/,
    make: (put) => {
      put(0, 0x9000, 16, INDIRECT);
      put(0x800, 0x9000, 16, INDIRECT);
    },
  },
  {
    name: "a loop in an indirect table",
    says: /loop in an indirect table/,
    make: (put) => {
      put(0, 0x9000, 32, INDIRECT);
      put(0x800, 0x8000, 1, NEXT, 1);
      put(0x801, 0x8000, 1, NEXT, 0);
    },
  },
  {
    name: "indirect and next",
    says: /indirect descriptor with a next/,
    make: (put) => put(0, 0x9000, 16, INDIRECT | NEXT, 1),
  },
];

for (const { name, says, make } of broken) {
  test(`a split ring with ${name} is broken, once and for all`, () => {
    const { device, events, view, driver } = pair(4, false, false);
    view.setUint16(0x4002, 1, true);
    make((index, gpa, length, flags, next = 0) => {
      view.setBigUint64(0x1000 + index * 16, BigInt(gpa), true);
      view.setUint32(0x1008 + index * 16, length, true);
      view.setUint16(0x100c + index * 16, flags, true);
      view.setUint16(0x100e + index * 16, next, true);
    }, view);
    assert.equal(device.pop(), undefined);
    assert.match(events.broken.join(), says);
    driver.add([{ gpa: 0x8000, length: 1, deviceWrites: false }]);
    assert.equal(device.pop(), undefined);
    device.publish();
    assert.deepEqual([events.broken.length, events.interrupts, device.usable], [1, 0, false]);
  });
}

test("an indirect table that was not negotiated is refused", () => {
  const { driver, device, events, view } = pair(4, true, false, false);
  driver.add([{ gpa: 0x9000, length: 16, deviceWrites: false }]);
  view.setUint16(0x100e, view.getUint16(0x100e, true) | INDIRECT, true);
  assert.equal(device.pop(), undefined);
  assert.match(events.broken.join(), /without VIRTIO_F_INDIRECT_DESC/);
});

test("a packed chain that never ends is broken", () => {
  const { device, events, view } = pair(4, true, false);
  for (let index = 0; index < 4; index++) view.setUint16(0x100e + index * 16, (1 << 7) | NEXT, true);
  assert.equal(device.pop(), undefined);
  assert.match(events.broken.join(), /loop of descriptors/);
});

test("rings that are nowhere, not aligned or of no size are not opened", () => {
  const buffer = new SharedArrayBuffer(0x10000);
  const ram = new MappedRam(buffer, [{ gpa: 0, sizeBytes: 0x10000, offset: 0 }]);
  const events = { interrupt: () => {}, broken: () => {}, later: () => {} };
  const fine = { size: 4, descriptors: 0x1000, driver: 0x2000, device: 0x3000, eventIndex: false, indirect: false };
  for (const packed of [false, true]) {
    const open = (change: Partial<QueueLayout>) => openQueue({ ...fine, packed, ...change }, ram, events);
    assert.equal(typeof open({}), "object");
    for (const change of [{ size: 0 }, { size: 32769 }, { size: 65536 }])
      assert.match(String(open(change)), /a queue of/);
    for (const area of ["descriptors", "driver", "device"]) {
      assert.match(String(open({ [area]: 0xffff0 + 0x10000 })), /not in RAM/);
      assert.match(String(open({ [area]: 2 ** 64 })), /not in RAM/);
      assert.match(String(open({ [area]: 0x1001 })), /not aligned/);
    }
  }
  assert.match(String(openQueue({ ...fine, size: 3, packed: false }, ram, events)), /a queue of 3/);
});
