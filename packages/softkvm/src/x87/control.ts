/** Control of the unit, and its state in memory (Intel SDM vol. 1, 8.1.10 and 8.3.9 to 8.3.11). */

import { State, Vector } from "../cpu/layout.ts";
import type { Instruction } from "../decode/instruction.ts";
import { AccessKind } from "../mmu/access.ts";
import { initializeX87 } from "../system/fpu-image.ts";
import type { Microcode } from "../system/microcode.ts";
import { linearOf, readOperand, writeOperand, writeRegister } from "../system/operands.ts";
import { kindOf as accessKindOf, type Processor } from "../system/processor.ts";
import { checkFpu } from "../system/processor-control.ts";
import { Kind, kindOf } from "./float80.ts";
import { CONTROL_ALWAYS, CONTROL_WRITABLE, Exception, Status, withSummary } from "./layout.ts";
import { begin, control, notePointer, register, takePending } from "./unit.ts";

const REGISTER_BYTES = 10;

export function statusWord({ state }: Processor): number {
  return state.get32(State.fsw) | ((state.get32(State.ftop) & 7) << Status.TOP_SHIFT);
}

function setStatusWord({ state }: Processor, word: number): void {
  state.set32(State.ftop, (word >>> Status.TOP_SHIFT) & 7);
  state.set32(State.fsw, withSummary(word & ~(7 << Status.TOP_SHIFT), state.get32(State.fcw)));
}

function setControlWord({ state }: Processor, word: number): void {
  const value = (word & CONTROL_WRITABLE) | CONTROL_ALWAYS;
  state.set32(State.fcw, value);
  state.set32(State.fsw, withSummary(state.get32(State.fsw), value));
}

/** Two bits for each physical register: 0 valid, 1 zero, 2 anything else, 3 empty. */
function tagWord(cpu: Processor): number {
  const top = cpu.state.get32(State.ftop);
  const used = cpu.state.get32(State.ftw);
  let word = 0;
  for (let number = 0; number < 8; number++) {
    let tag = 3;
    if (used & (1 << number)) {
      const kind = kindOf(register(cpu, number - top));
      tag = kind === Kind.NORMAL ? 0 : kind === Kind.ZERO ? 1 : 2;
    }
    word |= tag << (number * 2);
  }
  return word;
}

function setTagWord({ state }: Processor, word: number): void {
  let used = 0;
  for (let number = 0; number < 8; number++) if (((word >>> (number * 2)) & 3) !== 3) used |= 1 << number;
  state.set32(State.ftw, used);
}

/** The seven fields of an environment, each in 2 or 4 bytes (figures 8-9 to 8-12). Selectors are 0: see `conclude`. */
function environment(cpu: Processor, wide: boolean): number[] {
  const { state } = cpu;
  const pointer = (field: number) => Number(state.get64(field) & 0xffffffffn);
  const [fip, fdp, fop] = [pointer(State.fip), pointer(State.fdp), state.get32(State.fop)];
  const words = [control(cpu), statusWord(cpu), tagWord(cpu)];
  if (cpu.paragraphs) {
    // Linear addresses in two pieces, the opcode between them.
    const upper = (address: number) => ((address >>> 16) & (wide ? 0xffff : 0xf)) << 12;
    const low = [fip & 0xffff, upper(fip) | fop, fdp & 0xffff, upper(fdp)];
    if (!wide) return [...words, ...low];
    return [...words, low[0]!, low[1]!, low[2]!, low[3]!].map((field, index) =>
      index === 4 || index === 6 ? field : field | 0xffff0000,
    );
  }
  if (!wide) return [...words, fip, 0, fdp, 0];
  return [...words.map((word) => word | 0xffff0000), fip, fop << 16, fdp, 0xffff0000];
}

function setEnvironment(cpu: Processor, fields: readonly number[], wide: boolean): void {
  const { state } = cpu;
  let [, , , fip, second, fdp, fourth] = fields as [number, number, number, number, number, number, number];
  let fop = wide && !cpu.paragraphs ? second >>> 16 : 0;
  if (cpu.paragraphs) {
    fop = second;
    fip = (fip & 0xffff) | (((second >>> 12) & (wide ? 0xffff : 0xf)) << 16);
    fdp = (fdp & 0xffff) | (((fourth >>> 12) & (wide ? 0xffff : 0xf)) << 16);
  }
  setControlWord(cpu, fields[0]!);
  setStatusWord(cpu, fields[1]!);
  setTagWord(cpu, fields[2]!);
  state.set32(State.fop, fop & 0x7ff);
  state.set64(State.fip, BigInt(fip >>> 0));
  state.set64(State.fdp, BigInt(fdp >>> 0));
}

/** An environment, perhaps with the registers behind it, in guest memory. */
class Image {
  readonly wide: boolean;
  readonly environmentSize: number;
  readonly #cpu: Processor;
  readonly #address: number;
  readonly #kind: number;

  constructor(cpu: Processor, instruction: Instruction, write: boolean) {
    const [operand] = instruction.operands;
    this.wide = instruction.operandSize !== 16;
    this.environmentSize = this.wide ? 28 : 14;
    this.#cpu = cpu;
    this.#kind = accessKindOf(operand.segment);
    this.#address = linearOf(cpu, instruction, operand, operand.size, write);
    cpu.probe(this.#address, operand.size, this.#kind | (write ? AccessKind.WRITE : 0));
  }

  readEnvironment(): number[] {
    const size = this.wide ? 4 : 2;
    return Array.from({ length: 7 }, (_, index) => this.#cpu.read(this.#address + index * size, size, this.#kind));
  }

  writeEnvironment(fields: readonly number[]): void {
    const size = this.wide ? 4 : 2;
    for (const [index, field] of fields.entries()) {
      this.#cpu.write(this.#address + index * size, size, field, this.#kind);
    }
  }

  /** ST(`index`) to or from the state's registers, whose `top` is given. */
  readRegister(index: number, top: number): void {
    const { state } = this.#cpu;
    this.#cpu.load(this.#registerAddress(index), REGISTER_BYTES, this.#kind);
    const to = State.fpr + ((top + index) & 7) * 16;
    state.set64(to, state.get64(State.transfer));
    state.set32(to + 8, state.get32(State.transfer + 8) & 0xffff);
  }

  writeRegister(index: number, top: number): void {
    const { state } = this.#cpu;
    const from = State.fpr + ((top + index) & 7) * 16;
    state.set64(State.transfer, state.get64(from));
    state.set32(State.transfer + 8, state.get32(from + 8));
    this.#cpu.store(this.#registerAddress(index), REGISTER_BYTES, this.#kind);
  }

  #registerAddress(index: number): number {
    return this.#address + this.environmentSize + index * REGISTER_BYTES;
  }
}

function saveEnvironment(cpu: Processor, instruction: Instruction): void {
  checkFpu(cpu, "x87");
  const image = new Image(cpu, instruction, true);
  image.writeEnvironment(environment(cpu, image.wide));
  setControlWord(cpu, control(cpu) | Exception.ALL);
}

function loadEnvironment(cpu: Processor, instruction: Instruction): void {
  begin(cpu);
  const image = new Image(cpu, instruction, false);
  setEnvironment(cpu, image.readEnvironment(), image.wide);
}

function saveState(cpu: Processor, instruction: Instruction): void {
  checkFpu(cpu, "x87");
  const image = new Image(cpu, instruction, true);
  const top = cpu.state.get32(State.ftop);
  image.writeEnvironment(environment(cpu, image.wide));
  for (let index = 0; index < 8; index++) image.writeRegister(index, top);
  initializeX87(cpu.state);
}

function restoreState(cpu: Processor, instruction: Instruction): void {
  begin(cpu);
  const image = new Image(cpu, instruction, false);
  const fields = image.readEnvironment();
  const top = (fields[1]! >>> Status.TOP_SHIFT) & 7;
  for (let index = 0; index < 8; index++) image.readRegister(index, top);
  setEnvironment(cpu, fields, image.wide);
}

/** CR0.MP decides whether TS matters to it, EM does not. */
function wait(cpu: Processor): void {
  const cr0 = cpu.state.get32(State.cr0);
  if ((cr0 & MP_AND_TS) === MP_AND_TS) cpu.fault(Vector.NM);
  takePending(cpu);
}
const MP_AND_TS = 0xa;

export const CONTROL: Record<string, Microcode> = {
  fwait: wait,
  fnop: (cpu, instruction) => {
    // Those of the 8087 and 287 (db) are control instructions, which do not wait.
    if (instruction.form.byte === 0xdb) {
      checkFpu(cpu, "x87");
      return;
    }
    begin(cpu);
    notePointer(cpu);
  },
  fninit: (cpu) => {
    checkFpu(cpu, "x87");
    initializeX87(cpu.state);
  },
  fnclex: (cpu) => {
    checkFpu(cpu, "x87");
    const { state } = cpu;
    state.set32(State.fsw, state.get32(State.fsw) & Status.CONDITIONS);
  },
  fldcw: (cpu, instruction) => {
    begin(cpu);
    setControlWord(cpu, Number(readOperand(cpu, instruction, 0)));
  },
  fnstcw: (cpu, instruction) => {
    checkFpu(cpu, "x87");
    writeOperand(cpu, instruction, 0, BigInt(control(cpu)));
  },
  fnstsw: (cpu, instruction) => {
    checkFpu(cpu, "x87");
    const [operand] = instruction.operands;
    const word = BigInt(statusWord(cpu));
    if (operand.kind === "reg") writeRegister(cpu, operand.reg, 2, word);
    else writeOperand(cpu, instruction, 0, word);
  },
  fldenv: loadEnvironment,
  fnstenv: saveEnvironment,
  frstor: restoreState,
  fnsave: saveState,
};
