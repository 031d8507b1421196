/** Cases on the software processor: by microcode alone, and by handlers that leave to microcode what they do not do. */

import { softProcessor } from "../../../testing/soft-processor.ts";
import { Compiler } from "../../compiler/compiler.ts";
import { Mode, NO_FAULT, State, Vector } from "../../cpu/layout.ts";
import { Decoder } from "../../decode/decoder.ts";
import { Instruction, Status } from "../../decode/instruction.ts";
import { Blocks } from "../../interpreter/blocks.ts";
import { Handlers, JumpCache } from "../../interpreter/handlers.ts";
import { PLACES_BYTES } from "../../interpreter/places.ts";
import { Record, Return } from "../../interpreter/record.ts";
import { Outcome } from "../../mmu/access.ts";
import { execute } from "../../system/execute.ts";
import { restoreX87, saveX87 } from "../../system/fpu-image.ts";
import { segmentFault } from "../../system/mode.ts";
import type { Processor } from "../../system/processor.ts";
import { CODE, DATA, Field, MEMORY_BYTES, RECORD, SIGFPE } from "./record.ts";

const ARITHMETIC_FLAGS = 0x8d5n;
const GUEST_BYTES = 0x400000;
const ARENA_BYTES = 0x20000 + PLACES_BYTES;

export class Subject {
  protected readonly cpu: Processor;
  protected readonly bytes: Uint8Array;
  readonly #image = new DataView(new ArrayBuffer(512));
  readonly #decoder = new Decoder();
  readonly #instruction = new Instruction();

  constructor(buffer?: ArrayBufferLike) {
    ({ cpu: this.cpu, bytes: this.bytes } = softProcessor(GUEST_BYTES, undefined, buffer));
    // 64-bit code without paging: nothing here looks at tables.
    this.cpu.state.set32(State.mode, 2 | Mode.FLAT | Mode.PROTECTED | Mode.LONG);
  }

  run(cases: Uint8Array): Uint8Array {
    const outcomes = cases.slice();
    for (let at = 0; at < cases.length; at += RECORD) this.#runOne(new DataView(outcomes.buffer, at, RECORD));
    return outcomes;
  }

  /** Executes the instruction at {@link CODE}. */
  protected execute(length: number): Outcome {
    const { cpu } = this;
    const status = this.#decoder.decode(this.bytes, CODE, CODE + length, 64, this.#instruction);
    if (status !== Status.OK || this.#instruction.length !== length) throw new Error("a case is one instruction");
    cpu.instructionRip = BigInt(CODE);
    cpu.rip = BigInt(CODE + length);
    return execute(cpu, this.#instruction);
  }

  #runOne(record: DataView): void {
    this.load(record);
    const outcome = this.execute(record.getUint8(Field.length));
    this.save(record, outcome === Outcome.OK ? 0 : this.cpu.state.get32(State.faultVector));
  }

  protected load(record: DataView): void {
    const { bytes } = this;
    const { state } = this.cpu;
    const raw = new Uint8Array(record.buffer, record.byteOffset, RECORD);
    this.#toImage(record, raw);
    restoreX87(state, this.#image, true);
    bytes.set(raw.subarray(Field.code, Field.code + 8), CODE);
    bytes.set(raw.subarray(Field.memory, Field.memory + MEMORY_BYTES), DATA);
    state.setGpr(0, record.getBigUint64(Field.rax, true));
    state.setGpr(7, BigInt(DATA));
    state.rflags = Number(record.getBigUint64(Field.rflags, true));
    state.set32(State.faultVector, NO_FAULT);
  }

  /** `fault`: the exception's vector, or 0. */
  protected save(record: DataView, fault: number): void {
    const { bytes } = this;
    const { state } = this.cpu;
    const raw = new Uint8Array(record.buffer, record.byteOffset, RECORD);
    saveX87(state, this.#image, true);
    this.#fromImage(record, raw);
    record.setUint8(Field.length, fault === 0 ? 0 : fault === Vector.MF ? SIGFPE : 100 + fault);
    raw.set(bytes.subarray(DATA, DATA + MEMORY_BYTES), Field.memory);
    record.setBigUint64(Field.rax, state.gpr(0), true);
    record.setBigUint64(Field.rflags, BigInt(state.rflags), true);
  }

  /** Runs a state through the instructions at {@link CODE} up to HLT or a fault, by microcode. */
  runSequence(record: DataView, code: Uint8Array): void {
    this.load(record);
    this.bytes.set(code, CODE);
    let fault = 0;
    let at = CODE;
    while (fault === 0) {
      this.#decoder.decode(this.bytes, at, at + 15, 64, this.#instruction);
      if (this.#instruction.form.mnemonic === "hlt") break;
      at += this.#instruction.length;
      fault = this.step(this.#instruction, BigInt(at));
    }
    this.save(record, fault);
  }

  /** Executes an instruction by microcode; returns the exception's vector, or 0. */
  protected step(instruction: Instruction, next: bigint): number {
    const { cpu } = this;
    cpu.instructionRip = next - BigInt(instruction.length);
    cpu.rip = next;
    return execute(cpu, instruction) === Outcome.OK ? 0 : cpu.state.get32(State.faultVector);
  }

  #toImage(record: DataView, raw: Uint8Array): void {
    const image = this.#image;
    image.setUint16(0, record.getUint16(Field.fcw, true), true);
    image.setUint16(2, record.getUint16(Field.fsw, true), true);
    image.setUint8(4, record.getUint8(Field.ftw));
    image.setUint16(6, record.getUint16(Field.fop, true), true);
    image.setBigUint64(8, record.getBigUint64(Field.fip, true), true);
    image.setBigUint64(16, record.getBigUint64(Field.fdp, true), true);
    for (let index = 0; index < 8; index++) {
      const from = Field.st + index * 10;
      new Uint8Array(image.buffer).set(raw.subarray(from, from + 10), 32 + index * 16);
    }
  }

  #fromImage(record: DataView, raw: Uint8Array): void {
    const image = this.#image;
    record.setUint16(Field.fcw, image.getUint16(0, true), true);
    record.setUint16(Field.fsw, image.getUint16(2, true), true);
    record.setUint8(Field.ftw, image.getUint8(4));
    record.setUint16(Field.fop, image.getUint16(6, true), true);
    record.setBigUint64(Field.fip, image.getBigUint64(8, true), true);
    record.setBigUint64(Field.fdp, image.getBigUint64(16, true), true);
    for (let index = 0; index < 8; index++) {
      const from = 32 + index * 16;
      raw.set(new Uint8Array(image.buffer, from, 10), Field.st + index * 10);
    }
  }
}

/** The interpreter's handlers first. */
export class HandlerSubject extends Subject {
  /** Instructions done without microcode. */
  quick = 0;
  protected readonly handlers: Handlers;
  protected readonly blocks: Blocks;

  constructor() {
    const arena = GUEST_BYTES + JumpCache.end;
    const pages = Math.ceil((arena + ARENA_BYTES) / 65536);
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    super(memory.buffer);
    const { state, memory: access } = this.cpu;
    this.handlers = new Handlers(memory, GUEST_BYTES, {
      load: (linear, size, kind) => access.load(linear, size, kind),
      store: (linear, size, kind) => access.store(linear, size, kind),
      segmentFault: (segment) => segmentFault(state, segment),
    });
    const source = {
      fetch: (linear: bigint) => access.fetch(Number(linear)),
      translation: access.walker,
      watch: () => {},
      unwatch: () => {},
    };
    this.blocks = new Blocks(state, this.handlers, source, arena, arena + ARENA_BYTES);
  }

  protected override execute(length: number): Outcome {
    const { state } = this.cpu;
    state.set64(State.blockRip, BigInt(CODE));
    state.set32(State.budget, 0);
    const record = this.blocks.single(BigInt(CODE), 0n);
    if (typeof record !== "number") throw new Error("a case is one instruction");
    const reason = this.handlers.enter(record);
    state.set32(State.chain, 0);
    if (reason === Return.MICROCODE) return super.execute(length);
    this.quick++;
    return reason === Return.UNWIND ? Outcome.FAULT : Outcome.OK;
  }
}

/** Sequences as one compiled region, which goes on in the interpreter after what microcode does. */
export class RegionSubject extends HandlerSubject {
  /** Sequences done without microcode. */
  whole = 0;

  override runSequence(record: DataView, code: Uint8Array): void {
    const { state } = this.cpu;
    this.load(record);
    this.bytes.set(code, CODE);
    this.blocks.forgetAll();
    const rip = BigInt(CODE);
    this.blocks.find(rip, 0n, 0);
    const compiler = new Compiler(this.blocks, this.handlers, state.base);
    const block = this.blocks.peek(rip, 0n)!;
    while (block.region === undefined) compiler.sample(block);
    state.set64(State.blockRip, rip);
    state.set32(State.budget, 1000);
    let at = block.record;
    let fault = 0;
    let microcoded = false;
    while (fault === 0) {
      const reason = this.handlers.enter(at);
      if (reason === Return.UNWIND) fault = state.get32(State.faultVector);
      if (reason !== Return.MICROCODE) break;
      at = state.get32(State.record);
      const instruction = this.blocks.instructionAt(at);
      if (instruction.form.mnemonic === "hlt") break;
      microcoded = true;
      fault = this.step(instruction, rip + BigInt(state.view.getUint32(at + Record.next, true)));
      at += Record.size;
    }
    if (!microcoded) this.whole++;
    this.save(record, fault);
  }
}

/** A signal's context has RF and system flags of its own. */
export function sameFlags(a: bigint, b: bigint): boolean {
  return (a & ARITHMETIC_FLAGS) === (b & ARITHMETIC_FLAGS);
}
