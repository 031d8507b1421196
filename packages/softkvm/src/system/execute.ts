/** The boundary around microcode: what is thrown inside becomes an outcome. */

import type { Instruction } from "../decode/instruction.ts";
import { Outcome } from "../mmu/access.ts";
import { GUEST_EXIT, GUEST_FAULT } from "./faults.ts";
import type { Processor } from "./processor.ts";
import { MICROCODE } from "./table.ts";

/**
 * Executes one instruction. `cpu.instructionRip` and `cpu.rip` are set by the caller: this instruction's address and the
 * next one's. After OK, `cpu.rip` is where to go on. After FAULT the exception is recorded in the state, after EXIT a
 * request waits or a hook has noted why; registers are as they were.
 */
export function execute(cpu: Processor, instruction: Instruction): Outcome {
  const microcode = MICROCODE[instruction.form.mnemonic];
  if (microcode === undefined) throw new Error(`no microcode for ${instruction.form.mnemonic}`);
  const next = cpu.rip;
  try {
    if (microcode(cpu, instruction) !== GUEST_EXIT) return Outcome.OK;
  } catch (error) {
    if (error === GUEST_FAULT) return Outcome.FAULT;
    if (error !== GUEST_EXIT) throw error;
  }
  cpu.rip = next;
  return Outcome.EXIT;
}
