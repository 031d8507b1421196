/** A block's bytes as the instructions that it was made of. */

import { Mode } from "../cpu/layout.ts";
import type { Decoder } from "../decode/decoder.ts";
import { type Instruction, Status } from "../decode/instruction.ts";

/**
 * Undefined where the bytes are not those of a block any more: another vCPU may write them at any time. `take`: gives instructions to be
 * filled.
 */
export function decodeBlock(
  decoder: Decoder,
  code: Uint8Array,
  mode: number,
  take: () => Instruction,
): Instruction[] | undefined {
  const bits = ([16, 32, 64] as const)[mode & Mode.BITS]!;
  const instructions: Instruction[] = [];
  for (let at = 0; at < code.length; ) {
    const instruction = take();
    if (decoder.decode(code, at, code.length, bits, instruction) !== Status.OK) return undefined;
    instructions.push(instruction);
    at += instruction.length;
  }
  return instructions;
}
