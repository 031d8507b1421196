/** What became of a case: the state at its end, and how it ended. */

import type { FuzzCase } from "./case.ts";
import { XSAVE_BYTES } from "./layout.ts";

export type Ending =
  /** Code went to one of the slot's exits. */
  | "exit"
  /** An exception. */
  | "fault"
  /** The side cannot execute the instruction; nothing is compared. */
  | "unable";

export class Outcome {
  ending: Ending = "exit";
  exit = 0;
  vector = 0;
  error = 0;
  /** Of the faulting instruction. */
  rip = 0n;
  /** CR2 after a page fault. */
  address = 0n;
  flags = 0;
  /** 16 general registers as pairs of words. */
  readonly gpr = new Uint32Array(32);
  readonly xsave = new Uint8Array(XSAVE_BYTES);
  /** Why the side is unable. */
  reason = "";
}

/** Runs cases on its own copy of the machine's memory. */
export interface Subject {
  readonly name: string;
  /** Guest physical memory. */
  readonly memory: Uint8Array;
  /** Bytes of code pages were changed from outside. */
  codeChanged(physical: number, size: number): void;
  /** Puts the cases of a batch into memory, before any of them runs. */
  load(cases: readonly FuzzCase[]): void;
  /** Runs a case that was loaded. */
  run(fuzzCase: FuzzCase, outcome: Outcome): void;
}
