/**
 * The loop that runs a vCPU: guest code in the interpreter until something needs TypeScript, then microcode, faults,
 * interrupts, requests to the monitor. All of one thread.
 */

import { ExitReason, MpState } from "@lodge/kvm";
import { Compiler } from "../compiler/compiler.ts";
import { FIRST_RUNS } from "../compiler/warmth.ts";
import { Budget } from "../cpu/budget.ts";
import { Mode, NO_FAULT, Seg, State, Vector } from "../cpu/layout.ts";
import { CpuState } from "../cpu/state.ts";
import { FORMS } from "../decode/opcode-map.ts";
import type { Block } from "../interpreter/block.ts";
import { Blocks, type Undecodable } from "../interpreter/blocks.ts";
import { Handlers, JumpCache } from "../interpreter/handlers.ts";
import type { CodeKept } from "../interpreter/limits.ts";
import { Record, Return } from "../interpreter/record.ts";
import { LapicEvent } from "../interrupts/index.ts";
import { Access } from "../mmu/access.ts";
import type { MemoryMap } from "../mmu/memory-map.ts";
import { Bus, Mmio } from "../mmu/mmio.ts";
import { LookasideBuffers } from "../mmu/tlb.ts";
import { Walker } from "../mmu/walk.ts";
import { Watchpoints } from "../mmu/watchpoints.ts";
import { deliverFault } from "../system/exceptions.ts";
import { GUEST_EXIT, GUEST_FAULT } from "../system/faults.ts";
import type { Microcode } from "../system/microcode.ts";
import { segmentFault } from "../system/mode.ts";
import { Processor } from "../system/processor.ts";
import { baseOf, limitOf } from "../system/segment-registers.ts";
import { MICROCODE } from "../system/table.ts";
import { Debugger } from "./debugger.ts";
import { DueEvents } from "./due-events.ts";
import { KeptCode } from "./kept-code.ts";
import { Ports } from "./ports.ts";
import { Sampler } from "./sampler.ts";
import type { Surroundings } from "./surroundings.ts";
import { UnconfirmedCode } from "./unconfirmed-code.ts";

export class Core {
  readonly state: CpuState;
  readonly processor: Processor;
  readonly access: Access;
  readonly mmio: Mmio;
  readonly debug: Debugger;
  mpState: MpState = MpState.RUNNABLE;
  /** Set where something may have to be looked at before the guest goes on. */
  mustLook = true;
  readonly #handlers: Handlers;
  readonly #blocks: Blocks;
  readonly #compiler: Compiler;
  readonly #sampler: Sampler;
  readonly #ports: Ports;
  readonly #outside: Surroundings;
  readonly #unconfirmed: UnconfirmedCode;
  readonly #kept: KeptCode;
  readonly #events: DueEvents;
  /** By the ids of forms. */
  readonly #microcodes: readonly (Microcode | undefined)[];
  readonly #map: MemoryMap;
  /** Up to where {@link MemoryMap.codeWrites} was read. */
  #codeSeen: number;

  /** `area`: what the vCPU takes of the memory. */
  constructor(
    memory: WebAssembly.Memory,
    area: { base: number; bytes: number },
    map: MemoryMap,
    outside: Surroundings,
  ) {
    const { base } = area;
    this.#outside = outside;
    this.#microcodes = FORMS.map(({ mnemonic }) => outside.microcode[mnemonic] ?? MICROCODE[mnemonic]);
    this.#map = map;
    this.#codeSeen = map.codeWrites.end;
    this.state = new CpuState(memory.buffer, base);
    this.state.view.setInt32(base + State.faultVector, NO_FAULT, true);
    const tlb = new LookasideBuffers(this.state);
    const walker = new Walker(this.state, map, memory.buffer, { physicalBits: 40, gigabytePages: true });
    this.mmio = new Mmio(outside.local);
    const parts = { tlb, walker, mmio: this.mmio, watch: new Watchpoints() };
    this.access = new Access(this.state, map, parts, {
      codeWritten: (linear, size) => {
        this.#blocks.written(linear, size);
        if (outside.isAlone) return;
        // Others may have code there: they are told, and forget it. The page's mark goes first, as they may set it again.
        const page = Math.floor(linear / 4096);
        if (!this.#blocks.hasCode(page * 4096)) map.code.clear(page);
        this.#codeSeen = map.codeWrites.push(page, this.#codeSeen);
        outside.codeWritten();
      },
    });
    this.processor = new Processor(this.state, this.access, {
      ...outside.hooks,
      modeChanged: () => {},
      translationsFlushed: (flushed) => {
        this.#hasFlushed = true;
        this.#blocks.forgetJumps(flushed);
      },
      deliverQuickly: (vector, error, returnRip, resume) =>
        this.#handlers.quick.deliver(vector, error, base + returnRip, resume ? 1 : 0) !== 0,
      writeApicBase: (value) => {
        const isValid = outside.hooks.writeApicBase(value);
        this.access.memoryChanged();
        return isValid;
      },
      interruptsMayFlow: () => {
        // A return to ring 3 opens for interrupts that mostly do not wait; timers are looked at when the budget ends.
        if (this.#events.wait) this.mustLook = true;
      },
      halt: () => {
        this.mpState = MpState.HALTED;
        this.mustLook = true;
      },
      tripleFault: () => {
        this.mustLook = true;
      },
    });
    this.#events = new DueEvents(this.processor, outside);
    this.#ports = new Ports({
      hooks: outside.hooks,
      isReplaying: () => this.mmio.replaying,
      over: () => {
        this.charge(Budget.entry);
        if (outside.asked) this.lookSoon();
      },
    });
    const { access, state } = this;
    const charge = () => this.charge(Budget.access);
    this.#handlers = new Handlers(
      memory,
      base,
      {
        load: (linear, size, kind) => {
          charge();
          return access.load(linear, size, kind);
        },
        store: (linear, size, kind) => {
          charge();
          return access.store(linear, size, kind);
        },
        portRead: (port, size) => this.#ports.read(port, size),
        portWrite: (port, size, value) => this.#ports.write(port, size, value),
        msrWrite: (index, low, high) => {
          const isDone = !outside.replaying && outside.writeApicMsr(index, low >>> 0, high >>> 0);
          if (outside.asked) this.lookSoon();
          return isDone ? 1 : 0;
        },
        segmentFault: (segment) => segmentFault(state, segment),
        ticks: () => outside.ticks(),
      },
      outside.codeStore?.engine,
    );
    const source = {
      fetch: (linear: bigint) => {
        const at = access.fetch(Number(BigInt.asIntN(64, linear)));
        if (at === -1) throw GUEST_FAULT;
        if (at === -2) throw NO_CODE;
        return at;
      },
      translation: walker,
      watch: (page: number) => {
        map.code.set(page / 4096);
        tlb.flushWritesTo(page);
        if (!outside.isAlone) this.#unconfirmed.add(page);
      },
      unwatch: (page: number) => {
        // The bit is all vCPUs'; it goes only where no other can have code there.
        if (outside.isAlone) map.code.clear(page / 4096);
      },
    };
    this.#unconfirmed = new UnconfirmedCode(new Int32Array(memory.buffer), (page) => {
      if (page === "any") this.#blocks.forgetAll();
      else this.#blocks.written(page, 4096);
    });
    const records = base + JumpCache.end;
    this.#blocks = new Blocks(this.state, this.#handlers, source, records, area.base + area.bytes, FIRST_RUNS);
    this.#compiler = new Compiler(this.#blocks, this.#handlers, base, {
      thread: outside.compileThread,
      isKicked: () => outside.isKicked,
    });
    this.#sampler = new Sampler(this.state, this.#blocks, this.#compiler);
    this.#kept = new KeptCode(outside.codeStore, this.#blocks);
    this.debug = new Debugger(this.processor, {
      step: () => this.#step(),
      deliver: (act) => this.#deliver(act),
      shadowEnded: () => {
        this.mustLook = true;
      },
    });
    this.state.set32(State.codeBits, map.handle.code.at);
    this.state.set32(State.quick, 1);
  }

  /** Before the guest runs for the first time. */
  beginCode(): void {
    this.#kept.begin(this.state, this.processor.rip, this.#map);
  }

  /** The guest has ended. */
  keepCode(): void {
    this.#kept.keep();
  }

  /** What came of an image of the guest's code, if there was one. */
  get reuse(): ReturnType<Blocks["reuse"]> {
    return this.#blocks.reuse();
  }

  /** What is kept of the guest's code. */
  get kept(): CodeKept {
    return this.#blocks.kept;
  }

  /** Which instructions there are, by the decoder's features: as CPUID says. */
  decodeAs(features: ReadonlySet<string>): void {
    this.#kept.features = features;
    this.#blocks.decodeAs(features);
  }

  /** What happened takes so much of the time until the next look around. */
  charge(cost: number): void {
    const { state } = this;
    state.set32(State.budget, state.view.getInt32(state.base + State.budget, true) - cost);
  }

  /** Looks around when the instruction is over, or at the next jump. */
  lookSoon(): void {
    this.mustLook = true;
    this.state.set32(State.budget, 0);
  }

  /** Forgets what depends on memory slots. */
  memoryChanged(): void {
    this.access.memoryChanged();
    this.processor.flushAll();
  }
  writesChanged(): void {
    this.access.tlb.flushWrites();
  }
  /** Others have written to pages that hold code. */
  codeChanged(): void {
    const { codeWrites } = this.#map;
    const seen = codeWrites.read(this.#codeSeen, (page) => this.#blocks.written(page * 4096, 4096));
    if (seen === undefined) this.#blocks.forgetAll();
    this.#codeSeen = seen ?? codeWrites.end;
  }

  /** Runs until the monitor is needed. `immediate` is asked for after an answered access has been taken over. */
  run(): ExitReason {
    const { state } = this;
    // The monitor may have moved RIP, or set a shadow: it covers what comes next.
    if (state.get32(State.interruptShadow) !== 0) state.copy64(State.shadowRip, State.rip);
    const reason = this.#run();
    // What it no longer covers is not told.
    void this.#events.isShadowed;
    return reason;
  }

  #run(): ExitReason {
    this.mustLook = true;
    if (this.mmio.replaying || this.#outside.replaying) {
      const exit = this.#step();
      if (exit !== undefined) return exit;
    }
    let record = 0;
    for (;;) {
      if (this.mustLook || this.#outside.asked) {
        // Whatever runs next may be a handler's first instruction: no branch leads there.
        this.state.set32(State.chain, 0);
        const exit = this.#look();
        if (exit !== undefined) return exit;
        record = 0;
      }
      if (this.#stepping) {
        const exit = this.debug.step();
        if (exit !== undefined) return exit;
        record = 0;
        continue;
      }
      const outcome = this.#go(record);
      if (outcome < 0) return -outcome as ExitReason;
      record = outcome;
    }
  }

  /** The guest runs one instruction at a time: for TF, the debugger, and after STI or a load of SS. */
  get #stepping(): boolean {
    const { debug } = this;
    return debug.wantsSteps || this.#events.isShadowed || debug.guestTraps;
  }

  /** Runs from a record, or from RIP if that is 0. Returns the record to go on at, 0 to look it up, or minus an exit. */
  #go(from: number): number {
    const { state } = this;
    const budget = state.view.getInt32(state.base + State.budget, true) - Budget.entry;
    state.set32(State.budget, budget);
    if (budget < 0) {
      this.#budgetEnded();
      if (from === 0) return 0;
    }
    if (from !== 0) return this.#handle(this.#handlers.enter(from));
    const chain = state.get32(State.chain);
    // Outside 64-bit code the way in checks the limit of CS.
    if (!this.#missed && chain === 0 && (state.get32(State.mode) & Mode.BITS) === 2) {
      state.copy64(State.blockRip, State.rip);
      return this.#handle(this.#handlers.resume());
    }
    this.#missed = false;
    const found = this.#find(chain);
    return found <= 0 ? found : this.#handle(this.#handlers.enter(found));
  }
  /** The jump cache was asked for RIP in vain. */
  #missed = false;

  /** The record at RIP; 0 when a fault was taken instead, or minus an exit. */
  #find(chain: number): number {
    const { processor, state } = this;
    const rip = processor.rip;
    processor.instructionRip = rip;
    state.set64(State.blockRip, rip);
    const found = this.#decoded(() => this.#blocks.find(rip, baseOf(state, Seg.CS), chain));
    state.set32(State.chain, 0);
    return found;
  }

  #decoded(find: () => number | Undecodable): number {
    const { processor, state } = this;
    try {
      if ((state.get32(State.mode) & Mode.BITS) !== 2 && processor.rip > BigInt(limitOf(state, Seg.CS))) {
        state.raise(Vector.GP, 0);
        throw GUEST_FAULT;
      }
      const found = find();
      if (typeof found === "number") return found;
      if (found.kind === "undefined") state.raise(Vector.UD);
      else state.raise(Vector.GP, 0);
    } catch (error) {
      if (error === NO_CODE) return -ExitReason.INTERNAL_ERROR;
      if (error !== GUEST_FAULT) throw error;
    }
    return -(this.#fault() ?? 0);
  }

  /** Handles why the interpreter came back; returns as {@link #go}. */
  #handle(reason: Return): number {
    const { state } = this;
    switch (reason) {
      case Return.LOOKUP:
        state.copy64(State.rip, State.blockRip);
        this.#missed = true;
        return 0;
      case Return.BUDGET:
        state.copy64(State.rip, State.blockRip);
        state.set32(State.chain, 0);
        if (!this.#isStep) this.#budgetEnded();
        return 0;
      case Return.OFTEN:
        state.copy64(State.rip, State.blockRip);
        state.set32(State.chain, 0);
        this.#found((block) => {
          const distance = Number(BigInt.asIntN(64, state.get64(State.rip) - state.get64(State.regionBase)));
          this.#compiler.extend(state.get32(State.region), block, distance);
        });
        return 0;
      case Return.WARM: {
        const record = state.get32(State.record);
        state.copy64(State.rip, State.blockRip);
        this.#blocks.settle(record);
        this.#found((block) => {
          if (block.record === record) this.#compiler.warm(block, this.#sampler.budgets);
        });
        return record;
      }
      case Return.BUDGET_REPEAT:
        this.#setRip(State.rip, state.get32(State.record), Record.start);
        state.set32(State.budget, Budget.full);
        this.mustLook = true;
        return 0;
      case Return.RESYNC: {
        const old = state.get32(State.record);
        this.#setRip(State.rip, old, Record.start);
        const found = this.#find(0);
        if (found > 0 && state.view.getUint32(old + Record.start, true) === 0) this.#blocks.forward(old, found);
        return found;
      }
      case Return.UNWIND: {
        this.#setRip(State.rip, state.get32(State.record), Record.start);
        state.copy64(State.instructionRip, State.rip);
        this.access.releaseLock();
        return state.faulted ? -(this.#fault() ?? 0) : -this.#request();
      }
      case Return.MICROCODE:
        return this.#microcode(state.get32(State.record));
    }
  }

  /** Time to look around, and at what runs. */
  #budgetEnded(): void {
    this.#sampler.budgets += 1;
    this.state.set32(State.budget, Budget.full);
    this.mustLook = true;
    this.#compiler.collect(this.#sampler.budgets);
    // Whoever asks would wait for the compiler, which may take milliseconds.
    if (!this.#outside.asked) this.#sampler.sample((tell) => this.#found(tell));
  }

  /** Tells of the block at RIP, if it is decoded. */
  #found(tell: (block: Block) => void): void {
    const { processor, state } = this;
    try {
      const block = this.#blocks.peek(processor.rip, baseOf(state, Seg.CS));
      if (block !== undefined) tell(block);
    } catch (error) {
      // The page has gone; the fetch will fault in its own time.
      if (error !== GUEST_FAULT && error !== NO_CODE) throw error;
      state.view.setInt32(state.base + State.faultVector, NO_FAULT, true);
    }
  }

  /** Sets a field to where an instruction begins or ends, by its record. In halves: bigints here would be garbage. */
  #setRip(to: number, record: number, distance: typeof Record.start | typeof Record.next): void {
    const { state } = this;
    const sum = state.get32(State.blockRip) + state.view.getUint32(record + distance, true);
    const bits = state.get32(State.mode) & Mode.BITS;
    state.set32(to, bits === 0 ? sum & 0xffff : sum);
    state.set32(to + 4, bits === 2 ? state.get32(State.blockRip + 4) + Math.floor(sum / 2 ** 32) : 0);
  }

  #microcode(record: number): number {
    const { processor, state } = this;
    const instruction = this.#blocks.instructionAt(record);
    this.#setRip(State.instructionRip, record, Record.start);
    this.#setRip(State.rip, record, Record.next);
    const nextLow = state.get32(State.rip);
    const nextHigh = state.get32(State.rip + 4);
    const mode = state.get32(State.mode);
    const microcode = this.#microcodes[instruction.form.id];
    if (instruction.form.mnemonic === "int3" && this.debug.softwareBreakpoints) {
      processor.rip = processor.instructionRip;
      return -this.debug.told(Vector.BP, 0n);
    }
    try {
      this.#ports.rethrow();
      if (microcode === undefined) processor.undefinedInstruction();
      else if (microcode(processor, instruction) === GUEST_EXIT) {
        state.copy64(State.rip, State.instructionRip);
        return -this.#request();
      }
    } catch (error) {
      state.copy64(State.rip, State.instructionRip);
      if (error === GUEST_FAULT) return -(this.#fault() ?? 0);
      if (error === GUEST_EXIT) return -this.#request();
      throw error;
    }
    const fellThrough = state.get32(State.rip) === nextLow && state.get32(State.rip + 4) === nextHigh;
    const goesOn = fellThrough && !instruction.form.ends && !this.#hasFlushed;
    this.#hasFlushed = false;
    return goesOn && state.get32(State.mode) === mode ? record + Record.size : 0;
  }
  /** What follows may have to be fetched from elsewhere. */
  #hasFlushed = false;

  /** An exception was recorded: delivers it. Returns an exit, or undefined. */
  #fault(): ExitReason | undefined {
    this.mmio.clear();
    return this.#deliver(this.#deliverFault);
  }
  readonly #deliverFault = (): boolean => deliverFault(this.processor);

  #deliver(act: () => boolean): ExitReason | undefined {
    try {
      if (!act()) {
        this.processor.events.tripleFault = false;
        return ExitReason.SHUTDOWN;
      }
      this.mmio.clear();
      return undefined;
    } catch (error) {
      if (error !== GUEST_EXIT) throw error;
      // Tables or stacks outside of memory: KVM gives up on that, too.
      this.mmio.clear();
      return ExitReason.INTERNAL_ERROR;
    }
  }

  /** An access that the monitor answers is pending: which exit that is. */
  #request(): ExitReason {
    const { pending } = this.mmio;
    if (pending !== undefined) return pending.bus === Bus.PORT ? ExitReason.IO : ExitReason.MMIO;
    return this.#outside.requestedExit() ?? ExitReason.INTERNAL_ERROR;
  }

  /** One instruction, with whatever becomes of it. */
  #step(): ExitReason | undefined {
    const { processor, state } = this;
    const rip = processor.rip;
    processor.instructionRip = rip;
    state.set64(State.blockRip, rip);
    this.mmio.restart();
    const found = this.#decoded(() => this.#blocks.single(rip, baseOf(state, Seg.CS)));
    if (found < 0) return -found as ExitReason;
    if (found === 0) return undefined;
    // Without a budget every way out of the instruction ends here; what there was goes on afterwards.
    const budget = state.view.getInt32(state.base + State.budget, true) - Budget.entry;
    state.set32(State.budget, 0);
    state.set32(State.quick, 0);
    this.#isStep = true;
    const outcome = this.#handle(this.#handlers.enter(found));
    this.#isStep = false;
    state.set32(State.quick, 1);
    state.set32(State.budget, budget);
    if (budget < 0) this.#budgetEnded();
    state.set32(State.chain, 0);
    // Records are of use only in blocks.
    if (outcome > 0) this.#setRip(State.rip, outcome - Record.size, Record.next);
    if (outcome < 0) return -outcome as ExitReason;
    this.mmio.clear();
    return undefined;
  }

  #isStep = false;

  /** Everything that may come between two instructions. */
  #look(): ExitReason | undefined {
    const { processor } = this;
    const outside = this.#outside;
    for (;;) {
      this.mustLook = false;
      const exit = outside.attend();
      if (exit !== undefined) return exit;
      if (!this.#unconfirmed.isEmpty) this.#unconfirmed.confirm(() => outside.askForWrites());
      outside.expireTimers();
      if (outside.pendingApicEvents & (LapicEvent.INIT | LapicEvent.SIPI)) outside.takeApicEvents();
      if (processor.events.tripleFault) {
        processor.events.tripleFault = false;
        return ExitReason.SHUTDOWN;
      }
      const delivered = this.#deliverEvents();
      if (delivered !== undefined) return delivered;
      if (this.mpState === MpState.RUNNABLE) {
        if (outside.wantsInterruptWindow && this.isInterruptible && processor.events.interrupt < 0) {
          return ExitReason.IRQ_WINDOW_OPEN;
        }
        // Compiled code may open for interrupts: it is told whether there are any.
        this.state.set32(State.eventWaits, this.#events.wait ? 1 : 0);
        return undefined;
      }
      if (!outside.hasLocalApic) {
        // The monitor plays the interrupt controller: it knows when to go on.
        this.mpState = MpState.RUNNABLE;
        return ExitReason.HLT;
      }
      this.#compiler.collect();
      outside.sleep();
    }
  }

  /** Whether a maskable interrupt would be taken before the next instruction. */
  get isInterruptible(): boolean {
    return this.#events.isInterruptible;
  }

  #deliverEvents(): ExitReason | undefined {
    if (this.mpState !== MpState.RUNNABLE && this.mpState !== MpState.HALTED) return undefined;
    return this.#events.deliver(this.#deliverAwake);
  }
  readonly #deliverAwake = (act: () => boolean): ExitReason | undefined => {
    this.mpState = MpState.RUNNABLE;
    return this.#deliver(act);
  };
}

/** Thrown when an instruction is to be fetched from where no memory is. */
const NO_CODE = new Error("code outside of memory");
