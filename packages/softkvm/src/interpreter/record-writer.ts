/** Writes records (record.ts): what an instruction's handler has to know of it. */

import { State } from "../cpu/layout.ts";
import type { CpuState } from "../cpu/state.ts";
import { Instruction, type Operand } from "../decode/instruction.ts";
import { PAGE } from "./block.ts";
import { Slot } from "./handlers.ts";
import type { KnownShapes } from "./known-shapes.ts";
import { Record } from "./record.ts";
import { CHAIN_LOOKUP } from "./record-context.ts";
import { addressedOperand, segmentOf } from "./shape.ts";

export class RecordWriter {
  readonly #state: CpuState;
  readonly #shapes: KnownShapes;
  readonly #chainTo: (target: number, page: number, mode: number) => number;
  readonly #microcode: Map<number, Instruction>;

  /**
   * `chainTo` says what a field of a record leads to. Instructions that TypeScript does are put into `microcode`, by record.
   */
  constructor(
    state: CpuState,
    shapes: KnownShapes,
    chainTo: (target: number, page: number, mode: number) => number,
    microcode: Map<number, Instruction>,
  ) {
    this.#state = state;
    this.#shapes = shapes;
    this.#chainTo = chainTo;
    this.#microcode = microcode;
  }

  /** Writes an instruction's record; returns whether it ends the block. */
  write(record: number, instruction: Instruction, start: number, host: number, pageEnd: number, mode: number): boolean {
    const { form } = instruction;
    const view = this.#state.view;
    const next = start + instruction.length;
    view.setUint32(record + Record.start, start, true);
    view.setUint32(record + Record.next, next, true);
    const { slot, isKept } = this.#shapes.of(instruction, mode);
    view.setUint32(record + Record.handler, slot, true);
    if (isKept) this.#microcode.set(record, cloneOf(instruction));
    if (slot === Slot.MICROCODE) return form.ends;
    const base = this.#state.base;
    for (let index = 0; index < instruction.operandCount; index++) {
      const operand = instruction.operands[index]!;
      switch (operand.kind) {
        case "reg":
          view.setUint32(record + Record.register[index]!, base + registerOffset(operand), true);
          break;
        case "mem":
          break;
        case "imm":
          view.setInt32(record + Record.immediate, operand.value, true);
          view.setInt32(record + Record.immediate + 4, operand.valueHigh, true);
          break;
        case "rel": {
          const distance = next + operand.value;
          view.setInt32(record + Record.immediate, distance, true);
          view.setInt32(record + Record.immediate + 4, Math.floor(distance / 2 ** 32), true);
          const page = pageEnd - PAGE;
          view.setUint32(record + Record.taken, this.#chainTo(host + distance, page, mode), true);
          view.setUint32(record + Record.fallThrough, this.#chainTo(host + next, page, mode), true);
          break;
        }
        case "far":
          break;
      }
    }
    const memory = addressedOperand(instruction);
    if (memory !== undefined) this.#writeAddress(record, memory, next);
    const segment = segmentOf(instruction, memory);
    view.setUint32(record + Record.segment, base + State.segmentBase + segment * 8, true);
    return form.ends || form.flow !== "next";
  }

  writeEnd(record: number, next: number, withinPage: boolean): void {
    const view = this.#state.view;
    view.setUint32(record + Record.handler, Slot.END, true);
    view.setUint32(record + Record.start, next, true);
    view.setUint32(record + Record.next, next, true);
    view.setUint32(record + Record.fallThrough, withinPage ? 0 : CHAIN_LOOKUP, true);
  }

  #writeAddress(record: number, memory: Operand, next: number): void {
    const view = this.#state.view;
    const base = this.#state.base;
    const register = (number: number) => base + (number < 0 ? State.zero : State.gpr + number * 8);
    view.setUint32(record + Record.base, memory.ripRelative ? base + State.blockRip : register(memory.base), true);
    const index = memory.bank === "gpr" ? register(memory.index) : base + State.vector + memory.index * 32;
    view.setUint32(record + Record.index, index, true);
    view.setUint32(record + Record.scale, memory.scale, true);
    // Without bigints, which would be garbage for each instruction.
    const distance = memory.disp + (memory.ripRelative ? next : 0);
    view.setInt32(record + Record.displacement, distance, true);
    const high = memory.ripRelative ? Math.floor(distance / 2 ** 32) : memory.dispHigh;
    view.setInt32(record + Record.displacement + 4, high, true);
  }
}

/** Where a register operand is in the vCPU's state. */
export function registerOffset(operand: Operand): number {
  switch (operand.bank) {
    case "gpr":
      return State.gpr + operand.reg * 8 + (operand.high ? 1 : 0);
    case "xmm":
    case "ymm":
      return State.vector + operand.reg * 32;
    case "mm":
      return State.fpr + (operand.reg & 7) * 16;
    case "st":
      // Of the register with that number if the stack's top is 0: see `Context.stackRegister`.
      return State.fpr + operand.reg * 16;
    default:
      return State.zero;
  }
}

function cloneOf(instruction: Instruction): Instruction {
  const copy = new Instruction();
  const { operands, ...rest } = instruction;
  Object.assign(copy, rest);
  for (let index = 0; index < instruction.operandCount; index++) Object.assign(copy.operands[index]!, operands[index]);
  return copy;
}
