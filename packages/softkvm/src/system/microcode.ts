import type { Instruction } from "../decode/instruction.ts";
import type { Processor } from "./processor.ts";

/**
 * One instruction's meaning. Throws GUEST_FAULT or GUEST_EXIT before it has changed anything. What exits all the time returns
 * GUEST_EXIT instead, as a throw takes as long as the rest of an exit; nothing else that is returned counts.
 */
export type Microcode = (cpu: Processor, instruction: Instruction) => unknown;
