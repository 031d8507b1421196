/** Walks that the machine's /dev/kvm cannot be asked about: 32-bit and PAE paging, from the manual (SDM vol. 3, 4.3, 4.4). */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Random } from "../../testing/random.ts";
import { type SoftProcessor, softProcessor } from "../../testing/soft-processor.ts";
import { State } from "../cpu/layout.ts";
import { Intent, PageFault } from "./paging.ts";
import { WALKED } from "./walk.ts";

const MEMORY = 0x20000;
const DIRECTORY = 0x4000;
const TABLE = 0x5000;
const { READ, WRITE, USER, FETCH, SMAP_OPEN } = Intent;
const { P, W, U, RSVD, I } = PageFault;
const CR0 = 0x80000031n;
const WP = 0x10000n;
const [PSE, PAE, SMEP, SMAP] = [0x10n, 0x20n, 1n << 20n, 1n << 21n];

function machine(cr0: bigint, cr4: bigint, efer = 0n): SoftProcessor {
  const soft = softProcessor(MEMORY);
  const { state } = soft.cpu;
  state.set64(State.cr0, cr0);
  state.set64(State.cr4, cr4);
  state.set64(State.efer, efer);
  state.set64(State.cr3, BigInt(DIRECTORY));
  return soft;
}

/** Walks one address through two 32-bit entries. */
function walk32(cr0: bigint, cr4: bigint, directory: number, entry: number, intent: number) {
  const soft = machine(cr0, cr4);
  const { walker } = soft.cpu.memory;
  soft.view.setUint32(DIRECTORY + 3 * 4, directory, true);
  soft.view.setUint32(TABLE + 5 * 4, entry, true);
  const result = walker.walk(3 * 2 ** 22 + 5 * 4096 + 0x123, intent);
  const after = [soft.view.getUint32(DIRECTORY + 3 * 4, true), soft.view.getUint32(TABLE + 5 * 4, true)];
  return { result, gpa: walker.gpa, after };
}

test("32-bit paging: rights are the AND of both entries, and bits are set only in walks that succeed", () => {
  for (const directoryBits of [1, 3, 5, 7]) {
    for (const entryBits of [0, 1, 3, 5, 7]) {
      for (const intent of [READ, WRITE, USER, USER | WRITE, FETCH, USER | FETCH]) {
        for (const cr0 of [CR0, CR0 | WP]) {
          const { result, gpa, after } = walk32(cr0, 0n, TABLE | directoryBits, 0x7000 | entryBits, intent);
          const both = directoryBits & entryBits;
          const asked = intent & (W | U);
          const writes = (intent & WRITE) !== 0;
          let expected = WALKED as number;
          if (!(entryBits & P)) expected = asked;
          else if (intent & USER ? !(both & U) || (writes && !(both & W)) : writes && cr0 & WP && !(both & W)) {
            expected = P | asked;
          }
          const name = `${directoryBits} ${entryBits} ${intent} ${cr0.toString(16)}`;
          assert.equal(result, expected, name);
          if (expected !== WALKED) assert.deepEqual(after, [TABLE | directoryBits, 0x7000 | entryBits], name);
          else {
            assert.equal(gpa, 0x7123, name);
            assert.deepEqual(after, [TABLE | directoryBits | 0x20, 0x7000 | entryBits | (writes ? 0x60 : 0x20)], name);
          }
        }
      }
    }
  }
});

test("32-bit paging: SMEP and SMAP", () => {
  const walk = (cr4: bigint, intent: number) => walk32(CR0, cr4, TABLE | 7, 0x7000 | 7, intent).result;
  assert.equal(walk(SMEP, FETCH), P | I);
  assert.equal(walk(SMEP, USER | FETCH), WALKED);
  assert.equal(walk(SMAP, FETCH), WALKED);
  assert.equal(walk(SMAP, READ), P);
  assert.equal(walk(SMAP, WRITE), P | W);
  assert.equal(walk(SMAP, READ | SMAP_OPEN), WALKED);
  assert.equal(walk(SMAP, USER), WALKED);
});

test("32-bit paging: 4 MiB pages, PSE-36 and their reserved bits", () => {
  const large = (cr4: bigint, directory: number) => walk32(CR0, cr4, directory, 0, READ);
  // Without CR4.PSE the bit means nothing: the address names a table.
  assert.equal(large(0n, TABLE | 0x87).result, 0);
  const low = large(PSE, 0x00400087);
  assert.deepEqual([low.result, low.gpa, low.after[0]], [WALKED, 0x400000 + 5 * 4096 + 0x123, 0x004000a7]);
  // Bits 13 to 20 are bits 32 to 39 of the address; this machine has 40.
  assert.equal(large(PSE, 0x00400087 | (0x81 << 13)).gpa, 0x81 * 2 ** 32 + 0x400000 + 5 * 4096 + 0x123);
  assert.equal(large(PSE, 0x00400087 | (1 << 21)).result, P | RSVD);
});

test("PAE: pointers are registers, pages have NX, and bits above the address are reserved", () => {
  const walk = (pointer: bigint, directory: bigint, entry: bigint, intent: number, nxe = true) => {
    const soft = machine(CR0, PAE, nxe ? 0x800n : 0n);
    soft.cpu.state.set64(State.pdpte + 2 * 8, pointer);
    soft.view.setBigUint64(DIRECTORY + 3 * 8, directory, true);
    soft.view.setBigUint64(TABLE + 5 * 8, entry, true);
    const result = soft.cpu.memory.walker.walk(2 * 2 ** 30 + 3 * 2 ** 21 + 5 * 4096 + 0x123, intent);
    return { result, gpa: soft.cpu.memory.walker.gpa };
  };
  const [pointer, directory, entry, nx] = [BigInt(DIRECTORY) | 1n, BigInt(TABLE) | 7n, 0x7007n, 1n << 63n];
  assert.deepEqual(walk(pointer, directory, entry, USER | WRITE), { result: WALKED, gpa: 0x7123 });
  assert.equal(walk(0n, directory, entry, USER).result, U);
  assert.equal(walk(pointer, directory, entry | nx, READ).result, WALKED);
  assert.equal(walk(pointer, directory, entry | nx, FETCH).result, P | I);
  assert.equal(walk(pointer, directory | nx, entry, FETCH).result, P | I);
  // Without EFER.NXE the bit is reserved, and no error code speaks of fetches.
  assert.equal(walk(pointer, directory, entry | nx, FETCH, false).result, P | RSVD);
  for (const bit of [40n, 51n, 52n, 62n]) {
    assert.equal(walk(pointer, directory, entry | (1n << bit), READ).result, P | RSVD, `bit ${bit}`);
  }
  assert.equal(walk(pointer, 0x200087n, 0n, READ).gpa, 0x200000 + 5 * 4096 + 0x123);
  assert.equal(walk(pointer, 0x200087n | (1n << 13n), 0n, READ).result, P | RSVD);
});

test("tables at random, even onto themselves, lead nowhere but to faults or addresses", () => {
  const random = new Random(1);
  for (let round = 0; round < 300; round++) {
    const pae = random.chance(0.3);
    const long = !pae && random.chance(0.5);
    const soft = machine(CR0, pae || long ? PAE | PSE : PSE, long ? 0xd00n : 0n);
    for (let at = 0; at < MEMORY; at += 8) soft.view.setBigUint64(at, random.bits64() & 0x8000_0000_0001_ffffn, true);
    soft.cpu.state.set64(State.cr3, BigInt(random.below(32) * 4096));
    for (let index = 0; index < 4; index++)
      soft.cpu.state.set64(State.pdpte + index * 8, BigInt(random.below(32) * 4096 + 1));
    for (let count = 0; count < 50; count++) {
      const va = long ? random.below(2 ** 31) * 65536 * (random.chance(0.5) ? 1 : -1) : random.next();
      const intent = random.pick([READ, WRITE, USER, USER | WRITE, FETCH]);
      const { walker } = soft.cpu.memory;
      const result = walker.walk(va, intent);
      if (result === WALKED) assert.ok(walker.gpa >= 0 && walker.gpa < 2 ** 52 && Number.isInteger(walker.gpa));
      else assert.equal(result & ~(P | W | U | RSVD | I), 0);
    }
  }
});
