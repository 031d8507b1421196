/** Microcode by mnemonic: see decode/form.ts. */

import { X87_INSTRUCTIONS } from "../x87/table.ts";
import { CONTROL_INSTRUCTIONS } from "./control.ts";
import { FAR_INSTRUCTIONS } from "./far.ts";
import { IO_INSTRUCTIONS } from "./io.ts";
import { INTERRUPT_INSTRUCTIONS } from "./iret.ts";
import type { Microcode } from "./microcode.ts";
import { PROCESSOR_INSTRUCTIONS } from "./processor-control.ts";
import { RARE_INSTRUCTIONS } from "./rare.ts";
import { SEGMENT_INSTRUCTIONS } from "./segments.ts";
import { SYSTEM_CALL_INSTRUCTIONS } from "./system-calls.ts";
import { XSAVE_INSTRUCTIONS } from "./xsave.ts";

export const MICROCODE: Readonly<Record<string, Microcode>> = {
  ...SEGMENT_INSTRUCTIONS,
  ...FAR_INSTRUCTIONS,
  ...INTERRUPT_INSTRUCTIONS,
  ...CONTROL_INSTRUCTIONS,
  ...SYSTEM_CALL_INSTRUCTIONS,
  ...PROCESSOR_INSTRUCTIONS,
  ...IO_INSTRUCTIONS,
  ...XSAVE_INSTRUCTIONS,
  ...X87_INSTRUCTIONS,
  ...RARE_INSTRUCTIONS,
};
