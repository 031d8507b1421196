/** Microcode as the fuzzer runs it: instructions that ring 3 has, and no surroundings. */

import type { ProcessorHooks } from "../src/system/processor.ts";
import { X87_INSTRUCTIONS } from "../src/x87/table.ts";
import { TRANSCENDENTALS } from "../src/x87/transcendental-table.ts";
import { FULL_CPUID } from "../testing/soft-processor.ts";

/** By mnemonic; beside those, x87's, whose results are the processor's own bit for bit. */
const INTEGER = ["cmpxchg8b", "cmpxchg16b", "xlat", "enter"];

/** Where the manuals promise less than all bits (tolerance.ts), or instruction pointers are seen, which are not compared. */
const LEFT_OUT: ReadonlySet<string> = new Set([
  ...Object.keys(TRANSCENDENTALS),
  "fldenv",
  "fnstenv",
  "frstor",
  "fnsave",
]);

/** What is compared although, or where, TypeScript does it. */
export const COMPARED_MICROCODE: ReadonlySet<string> = new Set(
  [...INTEGER, ...Object.keys(X87_INSTRUCTIONS)].filter((mnemonic) => !LEFT_OUT.has(mnemonic)),
);

const none = () => {};

export const NO_SURROUNDINGS: ProcessorHooks = {
  cpuid: FULL_CPUID,
  readMsr: () => undefined,
  writeMsr: () => false,
  readTsc: () => 0n,
  writeTsc: none,
  readTpr: () => 0,
  writeTpr: none,
  readApicBase: () => 0n,
  writeApicBase: () => false,
  readPort: () => undefined,
  writePort: () => false,
  random: () => 0n,
  hypercall: () => false,
  halt: none,
  tripleFault: none,
  modeChanged: none,
  translationsFlushed: none,
  deliverQuickly: () => false,
  interruptsMayFlow: none,
};
