/**
 * What the shapes of instructions come to, found by a number: decoding meets the same few hundred shapes again and again,
 * and describing one costs more than all the rest of decoding.
 */

import { type Instruction, SegmentRegister } from "../decode/instruction.ts";
import { FORMS } from "../decode/opcode-map.ts";
import { decidingImmediates } from "../semantics/sse/immediates.ts";
import { hasMicrocode, meaningOf } from "../semantics/table.ts";
import type { SavedHandlers } from "./code-image.ts";
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
  /** By the form's number, then by {@link numberOf}. */
  readonly #known: (Map<number, KnownShape> | undefined)[] = [];
  #count = 0;

  constructor(handlers: Handlers) {
    this.#handlers = handlers;
  }

  /** Of an instruction under a mode. A handler that is new is there after `Handlers.flush`. */
  of(instruction: Instruction, mode: number): KnownShape {
    const number = numberOf(instruction, mode);
    const { id } = instruction.form;
    let known = this.#known[id]?.get(number);
    if (known === undefined) {
      // There are millions, of which a guest can have all.
      if (this.#count >= CODE_LIMITS.shapes) this.clear();
      known = this.#describe(instruction, mode);
      this.#known[id] ??= new Map();
      this.#known[id].set(number, known);
      this.#count += 1;
    }
    return known;
  }

  get count(): number {
    return this.#count;
  }

  /** For {@link restore}: the form's number, the number of {@link numberOf}, what it is. */
  save(): SavedHandlers["known"] {
    return this.#known.flatMap((shapes, form) =>
      [...(shapes ?? [])].map(([number, { slot, isKept }]) => [form, number, slot, isKept ? 1 : 0] as const),
    );
  }

  restore(known: SavedHandlers["known"]): void {
    for (const [form, number, slot, isKept] of known) {
      this.#known[form] ??= new Map();
      this.#known[form].set(number, { slot, isKept: isKept === 1 });
      this.#count += 1;
    }
  }

  /** Handlers were cleared. */
  clear(): void {
    this.#known.length = 0;
    this.#count = 0;
  }

  #describe(instruction: Instruction, mode: number): KnownShape {
    const { mnemonic, condition } = instruction.form;
    const meaning = meaningOf(mnemonic, condition);
    const shape = meaning && shapeOf(instruction, mode);
    if (meaning === undefined || shape === undefined) return { slot: Slot.MICROCODE, isKept: true };
    return { slot: this.#handlers.slotOf(shape, meaning), isKept: hasMicrocode(mnemonic) };
  }
}

const DECIDING = Uint8Array.from(FORMS, ({ mnemonic }) => decidingImmediates[mnemonic] ?? 0);

/**
 * Instructions of one form with the same number have the same shape. Operand sizes and banks follow from the form, the
 * prefixes and what is memory: from the bottom these (14 bits), the mode (11), the segment (3) as it differs from DS, and what of operands
 * belongs to shapes, which is mostly 0, so that the number is a small integer to the engine.
 */
export function numberOf(instruction: Instruction, mode: number): number {
  const { form, operands, operandCount } = instruction;
  const memory = addressedOperand(instruction);
  const deciding = DECIDING[form.id]!;
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
  return value * 2 ** 28 + (((segmentOf(instruction, memory) ^ SegmentRegister.DS) << 25) | (mode << 14) | prefixes);
}
