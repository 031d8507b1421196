/** CRC32 (Intel SDM vol. 2): the polynomial 0x11edc6f41, bits reversed, a byte at a time by a table. */

import type { Code } from "../wasm/code.ts";
import type { I64, V128 } from "../wasm/expr.ts";
import { c32, c64, i32, i64 } from "../wasm/ops.ts";
import { i64x2 } from "../wasm/simd.ts";

const TABLE = 0x2000;
const REVERSED_POLYNOMIAL = 0x82f63b78;

function remainder(byte: number): number {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = (value >>> 1) ^ (value & 1 ? REVERSED_POLYNOMIAL : 0);
  return value >>> 0;
}
export const CRC_TABLES = [{ at: TABLE, words: Array.from({ length: 256 }, (_, byte) => remainder(byte)) }];

/** The remainder in lane 0 of `a` after so many bytes of lane 0 of `b`. */
const crc = (size: number) => (code: Code, a: V128, b: V128) => {
  // The remainder is added to the data: what is left when all of it has been looked up is the new one.
  const initial = i64.and(i64x2.extract_lane(a, 0), c64(0xffffffff));
  const data = code.let(i64.xor(initial, i64x2.extract_lane(b, 0)) as I64);
  for (let byte = 0; byte < size; byte++) {
    const index = i32.shl(i32.and(i32.wrap(data), c32(0xff)), c32(2));
    code.set(data, i64.xor(i64.shr_u(data, c64(8)), i64.load32_u(index, TABLE)));
  }
  code.return(i64x2.replace_lane(i64x2.splat(c64(0)), 0, data));
};

export const crcFunctions = { crc8: crc(1), crc16: crc(2), crc32: crc(4), crc64: crc(8) };
