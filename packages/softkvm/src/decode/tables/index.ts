/** All opcode tables, in the order in which their lines are tried. */

import { AVX_FLOAT } from "./avx-float.ts";
import { AVX_INTEGER } from "./avx-integer.ts";
import { BMI } from "./bmi.ts";
import { FMA } from "./fma.ts";
import { MMX } from "./mmx.ts";
import { ONE_BYTE } from "./one-byte.ts";
import { SSE_FLOAT } from "./sse-float.ts";
import { SSE_INTEGER } from "./sse-integer.ts";
import { SSE4 } from "./sse4.ts";
import { TWO_BYTE } from "./two-byte.ts";
import { X87 } from "./x87.ts";

export const TABLES: readonly string[] = [
  ...[ONE_BYTE, X87, TWO_BYTE],
  ...[MMX, SSE_FLOAT, SSE_INTEGER, SSE4],
  ...[AVX_FLOAT, AVX_INTEGER, FMA, BMI],
];
