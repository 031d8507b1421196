import assert from "node:assert/strict";
import { test } from "node:test";
import { Mode, State } from "../cpu/layout.ts";
import { CpuState } from "../cpu/state.ts";
import { JumpCache } from "./handlers.ts";
import { Jumps } from "./jumps.ts";
import { CODE_LIMITS } from "./limits.ts";

const MODE = 0x14a;
const USER_MODE = MODE | Mode.USER;
const SMALL = { pageShift: 12, global: false };
const LARGE = { pageShift: 21, global: true };

/** What compiled code finds for an address: a record, or 0. */
function reader(state: CpuState, mode: number): (rip: number) => number {
  const { shift, secondShift, secondFactor } = JumpCache;
  const isUser = (mode & Mode.USER) !== 0;
  const [table, entries] = isUser ? [JumpCache.ring3, JumpCache.ring3Entries] : [JumpCache.offset, JumpCache.entries];
  return (rip) => {
    const low = rip | 0;
    for (const hash of [low ^ (low >>> shift), (low >>> secondShift) ^ Math.imul(low, secondFactor)]) {
      const at = state.base + table + (hash & (entries - 1)) * JumpCache.entrySize;
      const isHit = state.view.getBigInt64(at + JumpCache.rip, true) === BigInt(rip);
      const tag = isUser ? mode | state.get32(State.space) : mode;
      if (isHit && state.view.getUint32(at + JumpCache.mode, true) === tag) {
        return state.view.getUint32(at + JumpCache.record, true);
      }
    }
    return 0;
  };
}

function made() {
  const state = new CpuState(new ArrayBuffer(JumpCache.end), 0);
  return { jumps: new Jumps(state), found: reader(state, MODE), foundByUser: reader(state, USER_MODE), state };
}

test("a jump goes with the translation that it stands for", () => {
  const { jumps, found } = made();
  const kernel = -0x7f000000;
  jumps.set(kernel, kernel, LARGE, MODE, 64);
  jumps.set(0x401000, 0x401000, SMALL, MODE, 128);
  jumps.set(0x402010, 0x402010, SMALL, MODE, 192);
  assert.deepEqual([kernel, 0x401000, 0x402010].map(found), [64, 128, 192]);
  // Another page, then the same.
  jumps.forgetPage(0x400000);
  assert.equal(found(0x401000), 128);
  jumps.forgetPage(0x401fff);
  assert.deepEqual([kernel, 0x401000, 0x402010].map(found), [64, 0, 192]);
  jumps.forgetNonGlobal();
  assert.deepEqual([kernel, 0x402010].map(found), [64, 0]);
  // INVLPG takes all of a large page, wherever in it.
  jumps.forgetPage(kernel + 0x1ff000);
  assert.equal(found(kernel), 0);
});

test("an entry that is filled again counts once", () => {
  const { jumps, found } = made();
  for (let round = 1; round <= 3; round++) {
    for (let rip = 0x400000; rip < 0x400000 + JumpCache.entries; rip++) jumps.set(rip, rip, SMALL, MODE, round * 64);
  }
  assert.equal(found(0x400123), 192);
  jumps.forgetAll();
  assert.equal(found(0x400123), 0);
  assert.equal(jumps.pages, 0);
});

test("an address that another drives from its place is found in its second", () => {
  const { jumps, found } = made();
  const one = 0x400123;
  const other = Array.from({ length: 2 ** 20 }, (_, index) => 0x800000 + index).find(
    (rip) => ((rip ^ (rip >>> 12)) & (JumpCache.entries - 1)) === ((one ^ (one >>> 12)) & (JumpCache.entries - 1)),
  )!;
  for (const round of [1, 2]) {
    jumps.set(one, one, LARGE, MODE, 64 * round);
    jumps.set(other, other, SMALL, MODE, 640 * round);
    assert.deepEqual([one, other].map(found), [64 * round, 640 * round]);
  }
  jumps.forgetNonGlobal();
  assert.deepEqual([one, other].map(found), [128, 0]);
  jumps.forgetPage(one);
  assert.equal(found(one), 0);
});

test("so many pages are remembered and no more", () => {
  const { jumps, found } = made();
  for (let page = 1; page <= CODE_LIMITS.jumpPages + 1; page++) jumps.set(page * 4096, page * 4096, SMALL, MODE, 64);
  assert.ok(jumps.pages <= CODE_LIMITS.jumpPages);
  assert.equal(found((CODE_LIMITS.jumpPages + 1) * 4096), 64);
});

test("jumps of ring 3 go with their address space, and with a page that INVLPG names", () => {
  const { jumps, found, foundByUser, state } = made();
  const kernel = -0x7f000000;
  jumps.set(kernel, kernel, LARGE, MODE, 64);
  jumps.set(0x401000, 0x401000, SMALL, USER_MODE, 128);
  assert.deepEqual([found(0x401000), foundByUser(0x401000)], [0, 128]);
  jumps.forgetNonGlobal();
  assert.deepEqual([found(kernel), foundByUser(0x401000)], [64, 0]);
  jumps.set(0x401000, 0x401000, SMALL, USER_MODE, 192);
  jumps.forgetPage(0x403000);
  assert.equal(foundByUser(0x401000), 192);
  jumps.forgetPage(0x401fff);
  assert.deepEqual([found(kernel), foundByUser(0x401000)], [64, 0]);
  jumps.set(0x401000, 0x401000, SMALL, USER_MODE, 256);
  jumps.forgetAll();
  assert.deepEqual([found(kernel), foundByUser(0x401000)], [0, 0]);
  // When the numbers of address spaces begin again, nothing of the first ones is left.
  jumps.set(0x402000, 0x402000, SMALL, USER_MODE, 320);
  const first = state.get32(State.space);
  state.set32(State.space, 0x7ffff000);
  jumps.forgetNonGlobal();
  assert.equal(state.get32(State.space), 0);
  while (state.get32(State.space) !== first) jumps.forgetNonGlobal();
  assert.equal(foundByUser(0x402000), 0);
});

test("ring 3 drives nothing of the supervisor's from its places, and of its own what is of older address spaces", () => {
  const { jumps, found, foundByUser } = made();
  const kernel = 0x400123;
  const place = (rip: number) => (rip ^ (rip >>> 12)) & (JumpCache.ring3Entries - 1);
  const users = Array.from({ length: 2 ** 20 }, (_, index) => 0x800000 + index).filter(
    (rip) => place(rip) === place(kernel),
  );
  assert.ok(users.length > 100);
  jumps.set(kernel, kernel, LARGE, MODE, 64);
  for (const rip of users) jumps.set(rip, rip, SMALL, USER_MODE, 128);
  assert.equal(found(kernel), 64);
  // The first one that came and the last one have their places.
  assert.deepEqual([foundByUser(users[0]!), foundByUser(users.at(-1)!)], [128, 128]);
  jumps.set(users[0]!, users[0]!, SMALL, USER_MODE, 192);
  assert.equal(foundByUser(users[0]!), 192);
  jumps.forgetNonGlobal();
  jumps.set(users[1]!, users[1]!, SMALL, USER_MODE, 256);
  jumps.set(users[2]!, users[2]!, SMALL, USER_MODE, 320);
  assert.deepEqual([users[0]!, users[1]!, users[2]!].map(foundByUser), [0, 256, 320]);
});
