/** All opcode tables in the order in which their lines are tried. */

import { ONE_BYTE } from "./one-byte.ts";
import { TWO_BYTE } from "./two-byte.ts";

export const TABLES: readonly string[] = [ONE_BYTE, TWO_BYTE];
