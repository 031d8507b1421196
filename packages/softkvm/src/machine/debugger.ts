/** What the debugger outside asks for (`KVM_SET_GUEST_DEBUG`), and steps of one instruction with the traps that they end in. */

import { ExitReason } from "@lodge/kvm";
import { Seg, State, Vector } from "../cpu/layout.ts";
import { Flag } from "../cpu/state.ts";
import { deliverPending } from "../system/exceptions.ts";
import type { Processor } from "../system/processor.ts";
import { baseOf } from "../system/segment-registers.ts";

/** DR6.BS: a single step. */
const DR6_BS = 1n << 14n;

export interface DebuggerWires {
  /** One instruction, with whatever becomes of it. */
  step(): ExitReason | undefined;
  /** Delivers what `act` does, which is false for a triple fault. */
  deliver(act: () => boolean): ExitReason | undefined;
  /** What STI or a load of SS held off may come now. */
  shadowEnded(): void;
}

export class Debugger {
  singleStep = false;
  softwareBreakpoints = false;
  /** Linear addresses of instructions, by number; undefined where there is none. */
  breakpoints: readonly (bigint | undefined)[] = [];
  /** After a `DEBUG` exit. */
  exit = { exception: 0, pc: 0n, dr6: 0n };
  readonly #processor: Processor;
  readonly #wires: DebuggerWires;
  /** Where a breakpoint was told already: the instruction there runs now. */
  #resumeAt: bigint | undefined;

  constructor(processor: Processor, wires: DebuggerWires) {
    this.#processor = processor;
    this.#wires = wires;
  }

  /** Data breakpoints, by DR0 to DR7, in place of the guest's; undefined: the guest's own. */
  watchFor(registers: readonly bigint[] | undefined): void {
    const { memory, state } = this.#processor;
    if (memory.watch.override(state, registers)) this.#processor.flushAll();
  }

  /** Whether it wants to see every instruction. */
  get wantsSteps(): boolean {
    return this.singleStep || this.breakpoints.length > 0;
  }

  /** Whether the guest has traps of its own: TF, data breakpoints. */
  get guestTraps(): boolean {
    const { memory, state } = this.#processor;
    return (state.get32(State.flagRest) & Flag.TF) !== 0 || memory.watch.active;
  }

  /** The linear address of the instruction at RIP. */
  get #address(): bigint {
    const { bits64, rip, state } = this.#processor;
    return bits64 ? rip : rip + baseOf(state, Seg.CS);
  }

  /** The exit for what is the debugger's. */
  told(exception: number, dr6: bigint): ExitReason {
    this.#processor.events.exception = undefined;
    this.exit = { exception, pc: this.#address, dr6: dr6 | 0xffff0ff0n };
    return ExitReason.DEBUG;
  }

  /** A step with traps: TF, the debugger's steps and breakpoints, data breakpoints. */
  step(): ExitReason | undefined {
    const processor = this.#processor;
    const { state, memory } = processor;
    const hit = this.breakpoints.indexOf(this.#address);
    if (hit >= 0 && this.#resumeAt !== processor.rip) {
      this.#resumeAt = processor.rip;
      return this.told(Vector.DB, 1n << BigInt(hit));
    }
    this.#resumeAt = undefined;
    const trap = (state.get32(State.flagRest) & Flag.TF) !== 0;
    const shadow = state.get32(State.interruptShadow);
    memory.watch.hits = 0;
    const exit = this.#wires.step();
    if (exit !== undefined) return exit;
    // The shadow covers one instruction.
    if (shadow !== 0 && state.get32(State.interruptShadow) === shadow) {
      state.set32(State.interruptShadow, 0);
      this.#wires.shadowEnded();
    }
    const hits = BigInt(memory.watch.hits);
    if (this.singleStep || (hits !== 0n && this.breakpoints.length > 0)) {
      return this.told(Vector.DB, (this.singleStep ? DR6_BS : 0n) | hits);
    }
    if (!trap && hits === 0n) return undefined;
    processor.events.exception = {
      vector: Vector.DB,
      error: undefined,
      payload: (trap ? DR6_BS : 0n) | hits,
      soft: false,
    };
    return this.#wires.deliver(() => deliverPending(processor));
  }
}
