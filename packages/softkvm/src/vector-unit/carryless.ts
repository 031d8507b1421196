/**
 * PCLMULQDQ: the product of two polynomials of 64 bits over GF(2) (Intel SDM vol. 2).
 *
 * Integer multiplication carries; between bits that are four apart there is room for that, as no more than 15 sums of 1
 * meet below bit 60, and what is carried out of bit 63 is lost anyway (the idea is BearSSL's, ghash_ctmul64). Four by
 * four products of such spread operands give the lower half; the upper half is the lower one of the operands reversed.
 */

import type { Code } from "../wasm/code.ts";
import type { I64, V128 } from "../wasm/expr.ts";
import { c64, i64 } from "../wasm/ops.ts";
import { i64x2 } from "../wasm/simd.ts";

const every4th = (first: number) => c64(0x1111111111111111n << BigInt(first));

/** The lower 64 bits of a product. */
function lowProduct(code: Code, a: I64, b: I64): I64 {
  const as = [0, 1, 2, 3].map((first) => code.let(i64.and(a, every4th(first))));
  const bs = [0, 1, 2, 3].map((first) => code.let(i64.and(b, every4th(first))));
  const parts = [0, 1, 2, 3].map((sum) => {
    const products = as.map((part, index) => i64.mul(part, bs[(sum - index) & 3]!));
    return i64.and(products.reduce<I64>(i64.xor, c64(0)), every4th(sum));
  });
  return parts.reduce(i64.or);
}

function reversed(code: Code, value: I64): I64 {
  let result = value;
  for (const [shift, mask] of [
    [1, 0x5555555555555555n],
    [2, 0x3333333333333333n],
    [4, 0x0f0f0f0f0f0f0f0fn],
    [8, 0x00ff00ff00ff00ffn],
    [16, 0x0000ffff0000ffffn],
  ] as const) {
    const now = code.let(result);
    const up = i64.shl(i64.and(now, c64(mask)), c64(shift));
    result = i64.or(up, i64.and(i64.shr_u(now, c64(shift)), c64(mask)));
  }
  return i64.rotl(result, c64(32));
}

/** Of the low lanes. */
export function carrylessProduct(code: Code, a: V128, b: V128): void {
  const x = code.let(i64x2.extract_lane(a, 0));
  const y = code.let(i64x2.extract_lane(b, 0));
  const low = code.let(lowProduct(code, x, y));
  const mirrored = lowProduct(code, code.let(reversed(code, x)), code.let(reversed(code, y)));
  // Reversed, the product of 127 bits ends at bit 126.
  const high = i64.shr_u(reversed(code, mirrored), c64(1));
  code.return(i64x2.replace_lane(i64x2.splat(low), 1, high));
}
