/** x87 instructions in microcode, by mnemonic: see decode/tables/x87.ts. */

import type { Microcode } from "../system/microcode.ts";
import { COMPUTATIONS } from "./computations.ts";
import { CONTROL } from "./control.ts";
import { TRANSCENDENTALS } from "./transcendental-table.ts";
import { TRANSFERS } from "./transfers.ts";

export const X87_INSTRUCTIONS: Readonly<Record<string, Microcode>> = {
  ...TRANSFERS,
  ...COMPUTATIONS,
  ...CONTROL,
  ...TRANSCENDENTALS,
};
