/** The system instructions that have meanings; each may leave an instruction to its microcode. */

import type { Meaning } from "../context.ts";
import { flagInstructions } from "./flags.ts";
import { msrInstructions } from "./msrs.ts";
import { portInstructions } from "./ports.ts";
import { registerInstructions } from "./registers.ts";
import { ringInstructions } from "./rings.ts";
import { timeInstructions } from "./time.ts";
import { translationInstructions } from "./translations.ts";

export const systemInstructions: Record<string, Meaning> = {
  ...flagInstructions,
  ...msrInstructions,
  ...portInstructions,
  ...registerInstructions,
  ...ringInstructions,
  ...timeInstructions,
  ...translationInstructions,
};
