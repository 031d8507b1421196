/** Vector instructions from MMX to SSE4.2, with AES, PCLMULQDQ and SHA. */

import type { Meaning } from "../context.ts";
import { conversions } from "./conversions.ts";
import { crypto } from "./crypto.ts";
import { floats } from "./floats.ts";
import { vectorIntegers } from "./integer.ts";
import { moves } from "./moves.ts";
import { shuffles } from "./shuffles.ts";
import { text } from "./text.ts";

export const vectors: Record<string, Meaning> = {
  ...conversions,
  ...crypto,
  ...floats,
  ...moves,
  ...shuffles,
  ...text,
  ...vectorIntegers,
};
