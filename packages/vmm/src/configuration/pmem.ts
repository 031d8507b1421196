/** A machine's persistent memory as a user says it: `pmem.img,share=off`. */

import { VmmError } from "../errors.ts";
import { parseFields, parseSwitch } from "./fields.ts";

export interface PmemOptions {
  /** The guest has all of it as /dev/pmem0 and on. Whole pieces of 2 MiB. */
  readonly file: string;
  /** What the guest writes is the file's, which no other machine uses meanwhile; otherwise it is gone with the machine. Default: true. */
  readonly share?: boolean;
}

/** `FILE[,share=off]` */
export function parsePmem(text: string): PmemOptions {
  const { value, named } = parseFields(text, "--pmem", ["share"]);
  if (value === "") throw new VmmError("VMM_CONFIG", `--pmem ${text}: which file?`);
  return { file: value, share: parseSwitch(named.get("share") ?? "on", "share") };
}
