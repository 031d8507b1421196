/** Single instructions on the interpreter or compiled, from the same state as native.ts and with the same result. */

import { Compiler } from "../../compiler/compiler.ts";
import { Mode, NO_FAULT, State, Tlb, Vector } from "../../cpu/layout.ts";
import { CpuState } from "../../cpu/state.ts";
import { Blocks } from "../../interpreter/blocks.ts";
import { Handlers, JumpCache } from "../../interpreter/handlers.ts";
import { Return } from "../../interpreter/record.ts";
import { LookasideBuffers, TlbTable } from "../../mmu/tlb.ts";
import { CODE, DATA, DATA_BYTES, newMachine, type Outcome, STACK, type Trial } from "./native.ts";

const GUEST = 1 << 20;
const PAGE = 4096;
const AREA = 4 << 20;
/** OSFXSR, OSXMMEXCPT and OSXSAVE. */
const CR4 = 0x40600;
const MODE = 2 | Mode.FLAT | Mode.PROTECTED | Mode.LONG | Mode.USER;
/** `jmp .+2`: a block may end here. */
const JUMP = [0xeb, 0x00];

/** Where things are in an FXSAVE image (Intel SDM vol. 1, table 10-2). */
const Fx = { fcw: 0, fsw: 2, ftw: 4, mxcsr: 24, st: 32, xmm: 160 } as const;

export class Interpreted {
  readonly #bytes: Uint8Array;
  readonly #state: CpuState;
  readonly #handlers: Handlers;
  readonly #blocks: Blocks;
  readonly #compiler: Compiler;

  constructor() {
    const pages = (GUEST + AREA) / 65536;
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    this.#bytes = new Uint8Array(memory.buffer);
    const state = new CpuState(memory.buffer, GUEST);
    this.#state = state;
    const tlb = new LookasideBuffers(state);
    tlb.select(Tlb.USER);
    for (const page of [CODE, DATA]) {
      tlb.fill(Tlb.USER, TlbTable.READ, page, page, 12, false);
      tlb.fill(Tlb.USER, TlbTable.WRITE, page, page, 12, false);
    }
    const fault = () => {
      state.raise(Vector.PF);
      return 1;
    };
    this.#handlers = new Handlers(memory, GUEST, {
      ...{ load: fault, store: fault },
      segmentFault: () => {},
    });
    const source = {
      ...{ fetch: (linear: bigint) => Number(linear), translation: { pageShift: 12, global: false } },
      ...{ watch: () => {}, unwatch: () => {} },
    };
    const records = GUEST + JumpCache.end;
    this.#blocks = new Blocks(state, this.#handlers, source, records, GUEST + AREA);
    this.#compiler = new Compiler(this.#blocks, this.#handlers, GUEST);
    this.select({});
  }

  /** Changes what control registers switch on and off, beside `State.mode`. */
  select({ mode = 0, cr0 = 0x80000031, cr4 = CR4 }: { mode?: number; cr0?: number; cr4?: number }): void {
    this.#state.set32(State.mode, MODE | mode);
    this.#state.set32(State.cr0, cr0);
    this.#state.set32(State.cr4, cr4);
  }

  /** Undefined when the instruction has no meaning here. */
  run(trial: Trial, how: "interpreted" | "compiled" = "interpreted"): Outcome | undefined {
    this.#load(trial);
    const record = how === "interpreted" ? this.#blocks.single(BigInt(CODE), 0n) : this.#compiled();
    if (typeof record !== "number") return { ...this.#outcome(), vector: Vector.UD };
    const reason = this.#handlers.enter(record);
    if (reason === Return.MICROCODE) return undefined;
    return { ...this.#outcome(), vector: this.#vector(reason) };
  }

  /** Instructions in a row, of which the code of `trial` consists, from its state: up to the first that faults. */
  runSequence(trial: Trial, how: "interpreted" | "compiled"): Outcome {
    const state = this.#state;
    this.#load(trial);
    if (how === "compiled") {
      const reason = this.#handlers.enter(this.#compiled() as number);
      return { ...this.#outcome(), vector: this.#vector(reason) };
    }
    let reason: Return = Return.LOOKUP;
    for (let at = CODE; at < CODE + trial.code.length && reason !== Return.UNWIND; ) {
      reason = this.#handlers.enter(this.#blocks.single(BigInt(at), 0n) as number);
      at = Number(state.get64(State.blockRip));
    }
    return { ...this.#outcome(), vector: this.#vector(reason) };
  }

  #vector(reason: Return): number {
    return reason === Return.UNWIND ? this.#state.view.getInt32(this.#state.base + State.faultVector, true) : 1;
  }

  #load(trial: Trial): void {
    const state = this.#state;
    const { view, base } = state;
    this.#bytes.fill(0x90, CODE, CODE + PAGE);
    this.#bytes.set(trial.code, CODE);
    this.#bytes.set(JUMP, CODE + trial.code.length);
    this.#bytes.set(trial.data, DATA);
    for (let index = 0; index < 16; index++) {
      state.setGpr(index, index === 4 ? BigInt(STACK) : trial.gpr[index]!);
      this.#bytes.set(
        trial.fx.subarray(Fx.xmm + index * 16, Fx.xmm + index * 16 + 16),
        base + State.vector + index * 32,
      );
      this.#bytes.set(trial.upper.subarray(index * 16, index * 16 + 16), base + State.vector + index * 32 + 16);
    }
    state.rflags = Number(trial.flags) | 2;
    const fx = new DataView(trial.fx.buffer, trial.fx.byteOffset);
    state.set32(State.mxcsr, fx.getUint32(Fx.mxcsr, true));
    state.set32(State.fcw, fx.getUint16(Fx.fcw, true));
    const fsw = fx.getUint16(Fx.fsw, true);
    const top = (fsw >> 11) & 7;
    state.set32(State.fsw, fsw & ~0x3800);
    state.set32(State.ftop, top);
    state.set32(State.ftw, trial.fx[Fx.ftw]!);
    for (let index = 0; index < 8; index++) {
      const from = Fx.st + index * 16;
      this.#bytes.set(trial.fx.subarray(from, from + 10), base + State.fpr + ((index + top) & 7) * 16);
    }
    view.setInt32(base + State.faultVector, NO_FAULT, true);
    state.set64(State.blockRip, BigInt(CODE));
    state.set32(State.budget, 0);
  }

  /** The record of the block at CODE, whose handler is a compiled region. */
  #compiled() {
    this.#blocks.written(CODE, PAGE);
    const record = this.#blocks.find(BigInt(CODE), 0n, 0);
    const block = this.#blocks.peek(BigInt(CODE), 0n);
    while (block !== undefined && block.region === undefined) this.#compiler.sample(block);
    return record;
  }

  #outcome() {
    const state = this.#state;
    const out = newMachine();
    for (let index = 0; index < 16; index++) {
      out.gpr[index] = state.gpr(index);
      const from = state.base + State.vector + index * 32;
      out.fx.set(this.#bytes.subarray(from, from + 16), Fx.xmm + index * 16);
      out.upper.set(this.#bytes.subarray(from + 16, from + 32), index * 16);
    }
    out.flags = BigInt(state.rflags);
    const fx = new DataView(out.fx.buffer);
    const top = state.get32(State.ftop);
    fx.setUint16(Fx.fcw, state.get32(State.fcw), true);
    fx.setUint16(Fx.fsw, state.get32(State.fsw) | (top << 11), true);
    out.fx[Fx.ftw] = state.get32(State.ftw);
    fx.setUint32(Fx.mxcsr, state.get32(State.mxcsr), true);
    for (let index = 0; index < 8; index++) {
      const from = state.base + State.fpr + ((index + top) & 7) * 16;
      out.fx.set(this.#bytes.subarray(from, from + 10), Fx.st + index * 16);
    }
    out.data.set(this.#bytes.subarray(DATA, DATA + DATA_BYTES));
    return out;
  }
}
