/**
 * Moves of elements that a mask selects, and gathers (Intel SDM vol. 2). What is not selected is not touched, and cannot
 * fault.
 */

import type { I32, I64, V128 } from "../../wasm/expr.ts";
import { c32, c64, i32, i64 } from "../../wasm/ops.ts";
import { i32x4, i64x2 } from "../../wasm/simd.ts";
import type { Access, Context, Meaning, Value, Wide } from "../context.ts";
import { zeros } from "../sse/vectors.ts";
import { fromI64, low32, signExtend, zeroExtend } from "../words.ts";
import { readBoth, writeBoth } from "./vex.ts";

type ElementSize = 4 | 8;

/** Elements of so many bytes in vectors. */
const elementsOf = (size: ElementSize) => ({
  perHalf: 16 / size,
  signs: (a: V128): V128 => (size === 4 ? i32x4.shr_s(a, c32(31)) : i64x2.shr_s(a, c32(63))),
  bitmask: size === 4 ? i32x4.bitmask : i64x2.bitmask,
  get: (a: V128, lane: number): Value => (size === 4 ? i32x4.extract_lane(a, lane) : i64x2.extract_lane(a, lane)),
  set: (a: V128, lane: number, value: Value): V128 =>
    size === 4 ? i32x4.replace_lane(a, lane, value as I32) : i64x2.replace_lane(a, lane, value as I64),
});

/** The linear address of an element that is so many bytes behind an effective address. */
function elementAt(c: Context, effective: I64, distance: I64, size: number, access: Access) {
  const offset = zeroExtend(c.addressSize, fromI64(c.addressSize, i64.add(effective, distance)));
  return c.linear("operand", c.let(offset), size, access);
}

/** That of an element of a vector in memory: in 64-bit code an address of 32 bits does not wrap within an operand. */
function within(c: Context, effective: I64, distance: I64, size: number, access: Access) {
  if (c.bits !== 64) return elementAt(c, effective, distance, size, access);
  return c.linear("operand", c.let(i64.add(effective, distance)), size, access);
}

/** The top bits of all elements, the first in bit 0. */
function selectedBy(c: Context, size: ElementSize, { low, high }: Wide, isWide: boolean): I32 {
  const { bitmask, perHalf } = elementsOf(size);
  return c.let(isWide ? i32.or(bitmask(low), i32.shl(bitmask(high), c32(perHalf))) : bitmask(low));
}

const isSelected = (selected: I32, element: number) => i32.and(selected, c32(1 << element));

function maskedLoad(size: ElementSize): Meaning {
  const { perHalf, set } = elementsOf(size);
  return (c) => {
    const { code } = c;
    const isWide = c.operands[0]!.size === 32;
    const count = isWide ? perHalf * 2 : perHalf;
    const selected = selectedBy(c, size, readBoth(c, 1), isWide);
    const low = code.let(zeros());
    const high = code.let(zeros());
    code.if(
      i32.eq(selected, c32(2 ** count - 1)),
      () => {
        const all = readBoth(c, 2);
        code.set(low, all.low);
        code.set(high, all.high);
      },
      () => {
        const effective = c.let(c.effectiveAddress(2));
        for (let element = 0; element < count; element++) {
          const half = element < perHalf ? low : high;
          code.if(isSelected(selected, element), () => {
            const value = c.load(size, within(c, effective, c64(element * size), size, "read"));
            code.set(half, set(half, element % perHalf, value));
          });
        }
      },
    );
    writeBoth(c, 0, { low, high });
  };
}

function maskedStore(size: ElementSize): Meaning {
  const { perHalf, get } = elementsOf(size);
  return (c) => {
    const { code } = c;
    const isWide = c.operands[0]!.size === 32;
    const count = isWide ? perHalf * 2 : perHalf;
    const selected = selectedBy(c, size, readBoth(c, 1), isWide);
    const value = readBoth(c, 2);
    const each = (effective: I64) => {
      for (let element = 0; element < count; element++) {
        code.if(isSelected(selected, element), () => {
          const half = element < perHalf ? value.low : value.high;
          c.store(size, within(c, effective, c64(element * size), size, "write"), get(half, element % perHalf));
        });
      }
    };
    code.if(selected, () => {
      const effective = c.let(c.effectiveAddress(0));
      // All is tried before anything is written.
      const first = c.let(i32.ctz(selected));
      const bytes = i32.mul(i32.sub(c32(32), i32.add(i32.clz(selected), first)), c32(size));
      c.tryStore(within(c, effective, i64.extend_i32_u(i32.mul(first, c32(size))), size, "write"), c.let(bytes));
      code.if(
        i32.eq(selected, c32(2 ** count - 1)),
        () => (isWide ? c.writeWide(0, value) : c.writeVector(0, value.low, "unaligned")),
        () => each(effective),
      );
    });
  };
}

/**
 * Gathers: elements in turn, each with its part of the mask cleared when it is there, so that after a fault the instruction
 * goes on where it was. The mask, as long as the longest vector, becomes ones and zeros before anything is loaded.
 */
function gather(indexSize: ElementSize, size: ElementSize): Meaning {
  const indexes = elementsOf(indexSize);
  const elements = elementsOf(size);
  return (c) => {
    const { code } = c;
    const destination = c.operands[0]!.size;
    const indexBytes = c.operands[1]!.indexBytes!;
    const count = Math.min(indexBytes / indexSize, destination / size);
    const isLong = Math.max(indexBytes, destination) === 32;
    const numbers = c.indexVector(1);
    const index = [c.let(numbers.low), c.let(numbers.high)] as const;
    const old = c.readWide(0);
    // Of a destination that is half as long as the indexes, a fault finds the upper half as it was.
    const result = [code.let(old.low), code.let(isLong ? old.high : zeros())] as const;
    const given = c.readWide(2);
    const mask = [
      code.let(elements.signs(given.low)),
      code.let(isLong ? elements.signs(given.high) : zeros()),
    ] as const;
    const writeMask = () => c.writeWide(2, { low: mask[0], high: mask[1] });
    const effective = c.let(c.effectiveAddress(1));
    const shift = c.let(c.indexShift(1));
    writeMask();
    for (let element = 0; element < count; element++) {
      const half = element < elements.perHalf ? 0 : 1;
      const lane = element % elements.perHalf;
      code.if(low32(elements.get(mask[half], lane)), () => {
        const number = indexes.get(index[element < indexes.perHalf ? 0 : 1], element % indexes.perHalf);
        const distance = i64.shl(signExtend(indexSize, number), shift);
        const value = c.load(size, elementAt(c, effective, distance, size, "read"));
        code.set(result[half], elements.set(result[half], lane, value));
        code.set(mask[half], elements.set(mask[half], lane, size === 4 ? c32(0) : c64(0)));
        c.writeWide(0, { low: result[0], high: result[1] });
        writeMask();
      });
    }
    const isHalf = count * size === 8;
    writeBoth(c, 0, { low: isHalf ? i64x2.replace_lane(result[0], 1, c64(0)) : result[0], high: result[1] });
    c.writeWide(2, { low: zeros(), high: zeros() });
  };
}

const moves: Readonly<Record<string, ElementSize>> = { vmaskmovps: 4, vmaskmovpd: 8, vpmaskmovd: 4, vpmaskmovq: 8 };

export const masked: Record<string, Meaning> = {
  ...Object.fromEntries(
    Object.entries(moves).flatMap(([name, size]) => [
      [name, maskedLoad(size)],
      [`${name}.store`, maskedStore(size)],
    ]),
  ),
  ...{ vpgatherdd: gather(4, 4), vpgatherdq: gather(4, 8), vpgatherqd: gather(8, 4), vpgatherqq: gather(8, 8) },
  ...{ vgatherdps: gather(4, 4), vgatherdpd: gather(4, 8), vgatherqps: gather(8, 4), vgatherqpd: gather(8, 8) },
};
