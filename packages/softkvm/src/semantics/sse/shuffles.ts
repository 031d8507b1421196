/** Shuffles, blends, shifts by bytes: Intel SDM vol. 2. Where an immediate says how, it is known here. */

import type { V128 } from "../../wasm/expr.ts";
import { c32, i32 } from "../../wasm/ops.ts";
import { i8x16, i32x4, i64x2, splat, v128 } from "../../wasm/simd.ts";
import type { Context, Meaning } from "../context.ts";
import { setZeroAndCarry } from "../flags.ts";
import { alsoMmx, type Binary, binary, bytes, isMmx, lanes, lowHalves, zeros } from "./vectors.ts";

/** Lanes of `a` and `b` in turn, from the lower or the upper half. */
function unpack(size: 1 | 2 | 4 | 8, half: "low" | "high"): Meaning {
  return binary((a, b, c) => {
    const count = 16 / size;
    const first = half === "low" ? 0 : (isMmx(c) ? count / 2 : count) / 2;
    const numbers = Array.from({ length: count }, (_, index) => {
      const lane = (first + (index >> 1)) % count;
      return index & 1 ? lane + count : lane;
    });
    return lanes(size, a, b, numbers);
  });
}

/** Field `index` of an immediate of so many bits each. */
const field = (c: Context, index: number, bits: 1 | 2) => (c.immediate(2) >> (index * bits)) & ((1 << bits) - 1);

/** PSHUFx: lanes of operand 1 by the four fields of the immediate. */
const shuffle = (compute: (a: V128, fields: readonly number[]) => V128): Meaning => {
  return (c) => {
    const a = c.let(c.readVector(1));
    c.writeVector(
      0,
      compute(
        a,
        [0, 1, 2, 3].map((index) => field(c, index, 2)),
      ),
    );
  };
};

/** Lanes of operand 1 where the immediate's bits are set. */
const blend = (size: 2 | 4 | 8): Meaning =>
  binary((a, b, c) => {
    const count = 16 / size;
    const from = (lane: number) => (field(c, lane, 1) === 1 ? lane + count : lane);
    return lanes(
      size,
      a,
      b,
      Array.from({ length: count }, (_, lane) => from(lane)),
    );
  });

/** Lanes of operand 1 where the top bit of operand 2's is set. */
const blendByMask = (signs: (mask: V128) => V128): Meaning =>
  binary((a, b, c) => v128.bitselect(b, a, signs(c.readVector(2))));

/** The bytes of `low` and then `high` from one on, then zeros. */
function window(low: V128, high: V128, first: number): V128 {
  const at = (index: number) => Math.min(first + index, 32);
  if (first >= 32) return zeros();
  if (first >= 16)
    return bytes(
      high,
      zeros(),
      Array.from({ length: 16 }, (_, index) => at(index) - 16),
    );
  return bytes(
    low,
    high,
    Array.from({ length: 16 }, (_, index) => at(index)),
  );
}

/** INSERTPS: a lane of a register, or memory, to a lane; then zeros by a mask. */
const insertSingle = binary((a, b, c) => {
  const imm = c.immediate(2);
  const from = c.operands[1]!.kind === "mem" ? 0 : imm >> 6;
  const to = (imm >> 4) & 3;
  const inserted = i32x4.replace_lane(a, to, i32x4.extract_lane(b, from));
  const kept = [0, 1, 2, 3].map((lane) => ((imm >> lane) & 1 ? lane + 4 : lane));
  return lanes(4, c.let(inserted), zeros(), kept);
});

/** PTEST: ZF for `a & b`, CF for `~a & b` being 0. */
const testVectors: Meaning = (c) => {
  const b = c.let(c.readVector(1));
  const a = c.let(c.readVector(0));
  const none = (value: V128) => c.let(i32.eqz(v128.any_true(value)));
  setZeroAndCarry(c, none(v128.and(a, b)), none(v128.andnot(b, a)));
};

const byIndex: Binary = (a, b) => i8x16.swizzle(a, b);

export const shuffles: Record<string, Meaning> = {
  ...alsoMmx({
    ...{ punpcklbw: unpack(1, "low"), punpcklwd: unpack(2, "low"), punpckldq: unpack(4, "low") },
    ...{ punpckhbw: unpack(1, "high"), punpckhwd: unpack(2, "high"), punpckhdq: unpack(4, "high") },
    // A set top bit makes a zero: no other bits than that and the byte's number may remain.
    pshufb: binary((a, b, c) => byIndex(a, v128.and(b, splat(1, isMmx(c) ? 0x87 : 0x8f)))),
    pshufw: shuffle((a, words) => lanes(2, a, a, [...words, 4, 5, 6, 7])),
    palignr: binary((a, b, c) =>
      isMmx(c) ? window(c.let(lowHalves(b, a)), zeros(), c.immediate(2)) : window(b, a, c.immediate(2)),
    ),
  }),
  ...{ punpcklqdq: unpack(8, "low"), punpckhqdq: unpack(8, "high") },
  ...{ unpcklps: unpack(4, "low"), unpckhps: unpack(4, "high") },
  ...{ unpcklpd: unpack(8, "low"), unpckhpd: unpack(8, "high") },
  pshufd: shuffle((a, fields) => lanes(4, a, a, fields)),
  pshuflw: shuffle((a, fields) => lanes(2, a, a, [...fields, 4, 5, 6, 7])),
  pshufhw: shuffle((a, fields) => lanes(2, a, a, [0, 1, 2, 3, ...fields.map((word) => word + 4)])),
  shufps: binary((a, b, c) => lanes(4, a, b, [field(c, 0, 2), field(c, 1, 2), field(c, 2, 2) + 4, field(c, 3, 2) + 4])),
  shufpd: binary((a, b, c) => lanes(8, a, b, [field(c, 0, 1), field(c, 1, 1) + 2])),

  ...{ blendps: blend(4), blendpd: blend(8), pblendw: blend(2) },
  pblendvb: blendByMask((mask) => i8x16.lt_s(mask, zeros())),
  blendvps: blendByMask((mask) => i32x4.lt_s(mask, zeros())),
  blendvpd: blendByMask((mask) => i64x2.shr_s(mask, c32(63))),
  insertps: insertSingle,

  psrldq: (c) => c.writeVector(0, window(c.let(c.readVector(0)), zeros(), Math.min(c.immediate(1), 16))),
  pslldq: (c) => c.writeVector(0, window(zeros(), c.let(c.readVector(0)), 16 - Math.min(c.immediate(1), 16))),
  ptest: testVectors,
};
