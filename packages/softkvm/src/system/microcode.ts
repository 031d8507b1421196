import type { Instruction } from "../decode/instruction.ts";
import type { Processor } from "./processor.ts";

/** One instruction's meaning. Throws GUEST_FAULT or GUEST_EXIT before it has changed anything. */
export type Microcode = (cpu: Processor, instruction: Instruction) => void;
