/** AES, PCLMULQDQ, SHA and CRC32: Intel SDM vol. 2. What they compute is in vector-unit/. */

import type { VectorFunction } from "../../vector-unit/functions.ts";
import type { I32, V128 } from "../../wasm/expr.ts";
import { i64 } from "../../wasm/ops.ts";
import { constant, i32x4, v128 } from "../../wasm/simd.ts";
import type { IntegerSize, Meaning } from "../context.ts";
import { fromInteger } from "./moves.ts";
import { binary, lanes, unary } from "./vectors.ts";

const of = (name: VectorFunction): Meaning => binary((a, b, c) => c.vectorFunction(name, a, b));

/** RCON goes onto the words that were turned. */
const keyAssist = unary((a, c) => {
  const rcon = c.immediate(2);
  return v128.xor(c.vectorFunction("aesKeyAssist", a, a), constant(4, [0, rcon, 0, rcon]));
});

/** The immediate chooses a half of each operand. */
const carrylessProduct = binary((a, b, c) => {
  const half = (vector: V128, bit: number) => (c.immediate(2) & bit ? lanes(8, vector, vector, [1, 1]) : vector);
  return c.vectorFunction("carrylessProduct", half(a, 0x01), half(b, 0x10));
});

const CRC = { 1: "crc8", 2: "crc16", 4: "crc32", 8: "crc64" } as const;

const crc: Meaning = (c) => {
  const size = c.operands[1]!.size as IntegerSize;
  const wide = c.operands[0]!.size === 8;
  const data = c.let(c.read(1));
  const initial = fromInteger(wide ? 8 : 4, c.read(0));
  const result = i32x4.extract_lane(c.vectorFunction(CRC[size], initial, fromInteger(size, data)), 0) as I32;
  c.write(0, wide ? i64.extend_i32_u(result) : result);
};

const SHA1_ROUNDS = ["sha1FourRounds0", "sha1FourRounds1", "sha1FourRounds2", "sha1FourRounds3"] as const;

export const crypto: Record<string, Meaning> = {
  ...{ aesenc: of("aesEncrypt"), aesenclast: of("aesEncryptLast") },
  ...{ aesdec: of("aesDecrypt"), aesdeclast: of("aesDecryptLast") },
  aesimc: of("aesInverseMix"),
  aeskeygenassist: keyAssist,
  pclmulqdq: carrylessProduct,
  crc32: crc,
  ...{ sha1nexte: of("sha1NextE"), sha1msg1: of("sha1Message1"), sha1msg2: of("sha1Message2") },
  ...{ sha256msg1: of("sha256Message1"), sha256msg2: of("sha256Message2") },
  sha256rnds2: binary((a, b, c) => c.vectorFunction("sha256TwoRounds", a, b, c.readVector(2))),
  sha1rnds4: binary((a, b, c) => c.vectorFunction(SHA1_ROUNDS[c.immediate(2)]!, a, b)),
};
