/**
 * What the shapes of instructions come to, found by a number: decoding meets the same few hundred shapes again and again,
 * and describing one costs more than all the rest of decoding.
 */

import type { Instruction } from "../decode/instruction.ts";
import { decidingImmediates } from "../semantics/sse/immediates.ts";
import { hasMicrocode, meaningOf } from "../semantics/table.ts";
import { type Handlers, Slot } from "./handlers.ts";
import { CODE_LIMITS } from "./limits.ts";
import { addressedOperand, segmentOf, shapeOf } from "./shape.ts";

export interface KnownShape {
  /** Its handler. */
  readonly slot: number;
  /** TypeScript does the instruction, always or sometimes: it has to be kept. */
  readonly isKept: boolean;
}

export class KnownShapes {
  readonly #handlers: Handlers;
  readonly #known = new Map<number, KnownShape>();

  constructor(handlers: Handlers) {
    this.#handlers = handlers;
  }

  /** Of an instruction under a mode. A handler that is new is there after `Handlers.flush`. */
  of(instruction: Instruction, mode: number): KnownShape {
    const number = numberOf(instruction, mode);
    let known = this.#known.get(number);
    if (known === undefined) {
      // There are millions, of which a guest can have all.
      if (this.#known.size >= CODE_LIMITS.shapes) this.#known.clear();
      known = this.#describe(instruction, mode);
      this.#known.set(number, known);
    }
    return known;
  }

  get count(): number {
    return this.#known.size;
  }

  /** Handlers were cleared. */
  clear(): void {
    this.#known.clear();
  }

  #describe(instruction: Instruction, mode: number): KnownShape {
    const { mnemonic, condition } = instruction.form;
    const meaning = meaningOf(mnemonic, condition);
    const shape = meaning && shapeOf(instruction, mode);
    if (meaning === undefined || shape === undefined) return { slot: Slot.MICROCODE, isKept: true };
    return { slot: this.#handlers.slotOf(shape, meaning), isKept: hasMicrocode(mnemonic) };
  }
}

/**
 * Instructions with the same number have the same shape. Operand sizes and banks follow from the form, the prefixes and
 * what is memory: below 2^28 are those with the mode, above the form and what of operands belongs to shapes.
 */
export function numberOf(instruction: Instruction, mode: number): number {
  const { form, operands, operandCount } = instruction;
  const memory = addressedOperand(instruction);
  const deciding = decidingImmediates[form.mnemonic] ?? 0;
  let inMemory = 0;
  let value = 0;
  for (let index = 0; index < operandCount; index++) {
    const operand = operands[index]!;
    if (operand.kind === "mem") inMemory |= 1 << index;
    else if (operand.kind === "imm") value |= operand.value & deciding;
    else if (operand.bank === "cr" || operand.bank === "seg") value |= operand.reg;
  }
  const rep = instruction.rep === 0 ? 0 : instruction.rep & 1 ? 2 : 1;
  const prefixes =
    (instruction.operandSize >> 5) |
    ((instruction.addressSize >> 5) << 2) |
    (rep << 4) |
    (+instruction.lock << 6) |
    (+instruction.wide << 7) |
    (+instruction.vexLong << 8) |
    (+(memory !== undefined && memory.index >= 0) << 9) |
    (inMemory << 10);
  return (form.id * 2 ** 11 + segmentOf(instruction, memory) * 2 ** 8 + value) * 2 ** 28 + mode * 2 ** 14 + prefixes;
}
