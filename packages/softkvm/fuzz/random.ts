/** Repeatable randomness with a taste for values at the edges. */

import { DATA_BYTES, HIGH_ALIAS, linearOf, SlotPages, WRITABLE_BYTES } from "./layout.ts";

/** sfc32, seeded by two numbers: a run's seed and a case's index. */
export class Random {
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  constructor(seed: number, index: number) {
    this.#a = seed | 0;
    this.#b = index | 0;
    this.#c = Math.floor(index / 2 ** 32) ^ 0x9e3779b9;
    for (let round = 0; round < 12; round++) this.word();
  }

  /** 32 random bits. */
  word(): number {
    const sum = (this.#a + this.#b + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + sum) | 0;
    return sum >>> 0;
  }

  below(limit: number): number {
    return this.word() % limit;
  }

  /** True once in so many times. */
  once(times: number): boolean {
    return this.below(times) === 0;
  }

  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)]!;
  }

  wide(): bigint {
    return (BigInt(this.word()) << 32n) | BigInt(this.word());
  }

  /** A 64-bit number: random, small, at an edge of some width, or an address of the slot's data. */
  value(slot: number): bigint {
    switch (this.below(8)) {
      case 0:
      case 1:
        return this.pick(EDGES);
      case 2:
        return BigInt(this.below(256));
      case 3:
        return BigInt.asUintN(64, BigInt(this.word() | 0));
      case 4:
      case 5:
        return this.pointer(slot, 8);
      default:
        return this.wide();
    }
  }

  /**
   * An address for an access of `size` bytes in or around the slot's data, seldom anywhere else. `tame`: no operand lies
   * in two pages, for code that KVM emulates, which writes the first part before the second faults.
   */
  pointer(slot: number, size: number, tame = false): bigint {
    const kind = this.below(32);
    if (kind === 0 && !tame) return this.pick(WILD);
    if (kind === 1) return this.wide();
    let offset: number;
    if (kind < 4) offset = this.pick([0, DATA_BYTES]) - this.below(size + 2);
    else if (kind < 7) offset = this.pick([0x1000, WRITABLE_BYTES]) - this.below(size + 2);
    else if (kind < 9) offset = WRITABLE_BYTES + this.below(0x1000 - size);
    else offset = this.below(WRITABLE_BYTES - size);
    // Most vector instructions want their operands aligned.
    if (tame || this.below(size >= 16 ? 16 : 2) !== 0) offset &= -(2 ** Math.ceil(Math.log2(size)));
    const linear = BigInt(linearOf(slot, SlotPages.data.linear + offset));
    return this.below(3) === 0 ? linear + HIGH_ALIAS : linear;
  }
}

const EDGES: readonly bigint[] = [
  ...[0n, 1n, 2n, -1n, -2n],
  ...[7n, 8n, 15n, 16n, 31n, 32n, 63n, 64n].flatMap((bit) => {
    const power = bit === 64n ? 0n : 1n << bit;
    return [power, power - 1n, power + 1n, -power];
  }),
].map((value) => BigInt.asUintN(64, value));

/** Addresses that lead to other faults: null, the system's own pages, not canonical, the last bytes there are. */
const WILD: readonly bigint[] = [
  0n,
  0x5008n,
  0xfffffffdn,
  0x7fff_ffff_fffdn,
  0x8000_0000_0000n,
  0xffff_7000_0000_0000n,
];

/** 16-byte pieces for vector registers and memory: integers, floats and doubles at their edges, and noise. */
const POOL_BYTES = 0x10000;
export const POOL: Uint8Array = makePool();

function makePool(): Uint8Array {
  const random = new Random(0x51f15e, 0);
  const pool = new Uint8Array(POOL_BYTES);
  const view = new DataView(pool.buffer);
  const singles = [0, 0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001, 0xffbfffff];
  singles.push(1, 0x807fffff, 0x00800000, 0x7f7fffff, 0x4b000000, 0x4f000000, 0xcf000000, 0x3f000000, 0x40490fdb);
  const doubles = [0n, 1n << 63n, 0x3ff0000000000000n, 0xbff0000000000000n, 0x7ff0000000000000n, 0xfff0000000000000n];
  doubles.push(0x7ff8000000000000n, 0x7ff0000000000001n, 0xfff7ffffffffffffn, 1n, 0x800fffffffffffffn);
  doubles.push(0x0010000000000000n, 0x7fefffffffffffffn, 0x41dfffffffc00000n, 0x43e0000000000000n, 0x3fe0000000000000n);
  const bytes = [0, 1, 0x7f, 0x80, 0x81, 0xff];
  for (let at = 0; at < POOL_BYTES; at += 16) {
    const kind = random.below(6);
    for (let word = 0; word < 16; word += 4) {
      if (kind === 0) view.setUint32(at + word, random.pick(singles), true);
      // Ordinary numbers of like size, so that sums cancel and round.
      else if (kind === 1) view.setFloat32(at + word, (random.word() - 2 ** 31) / 2 ** random.below(40), true);
      else view.setUint32(at + word, random.word(), true);
    }
    for (let double = 0; double < 16; double += 8) {
      if (kind === 2) view.setBigUint64(at + double, random.pick(doubles), true);
      if (kind === 3) view.setFloat64(at + double, (random.word() - 2 ** 31) / 2 ** random.below(60), true);
    }
    if (kind === 4) for (let byte = 0; byte < 16; byte++) pool[at + byte] = random.pick(bytes);
  }
  return pool;
}
