/** Instructions that tell something of both halves at once: Intel SDM vol. 2. */

import type { I32, V128 } from "../../wasm/expr.ts";
import { c32, i32, i64 } from "../../wasm/ops.ts";
import { i8x16, i32x4, i64x2, splat, v128 } from "../../wasm/simd.ts";
import type { Meaning } from "../context.ts";
import { setZeroAndCarry } from "../flags.ts";
import { readBoth } from "./vex.ts";

/** VPTEST, VTESTPS and VTESTPD: ZF for `a & b`, CF for `~a & b` being 0 in the bits of a mask. */
function test(mask?: V128): Meaning {
  return (c) => {
    const b = readBoth(c, 1);
    const a = readBoth(c, 0);
    const none = (of: (a: V128, b: V128) => V128) => {
      const both = v128.or(of(a.low, b.low), of(a.high, b.high));
      return c.let(i32.eqz(v128.any_true(mask === undefined ? both : v128.and(both, mask))));
    };
    setZeroAndCarry(
      c,
      none(v128.and),
      none((x, y) => v128.andnot(y, x)),
    );
  };
}

/** VMOVMSKPS and its kin: the top bits of all lanes to a general register. */
function mask(bits: (a: V128) => I32, lanes: number): Meaning {
  return (c) => {
    const isWide = c.operands[1]!.size === 32;
    const { low, high } = readBoth(c, 1);
    const value = isWide ? i32.or(bits(low), i32.shl(bits(high), c32(lanes))) : bits(low);
    c.write(0, c.operands[0]!.size === 8 ? i64.extend_i32_u(value) : value);
  };
}

export const tests: Record<string, Meaning> = {
  vptest: test(),
  vtestps: test(splat(4, 1 << 31)),
  vtestpd: test(splat(8, 1n << 63n)),
  ...{ vmovmskps: mask(i32x4.bitmask, 4), vmovmskpd: mask(i64x2.bitmask, 2), vpmovmskb: mask(i8x16.bitmask, 16) },
};
