/** The interpreter as a subject: the software CPU's state, memory and decoded blocks, without what surrounds a vCPU. */

import { Cr4, Efer } from "@lodge/kvm";
import { Seg, SegmentAttribute, State, Tlb, Vector } from "../src/cpu/layout.ts";
import { CpuState } from "../src/cpu/state.ts";
import type { Block } from "../src/interpreter/block.ts";
import { Blocks, type CodeSource } from "../src/interpreter/blocks.ts";
import { Handlers, JumpCache } from "../src/interpreter/handlers.ts";
import { Record, Return } from "../src/interpreter/record.ts";
import type { Shape } from "../src/interpreter/shape.ts";
import { Access, Outcome as AccessOutcome } from "../src/mmu/access.ts";
import { MemoryMap } from "../src/mmu/memory-map.ts";
import { Mmio } from "../src/mmu/mmio.ts";
import { LookasideBuffers } from "../src/mmu/tlb.ts";
import { Walker } from "../src/mmu/walk.ts";
import { Watchpoints } from "../src/mmu/watchpoints.ts";
import type { Meaning } from "../src/semantics/context.ts";
import { execute } from "../src/system/execute.ts";
import { segmentFault, updateMode } from "../src/system/mode.ts";
import { Processor } from "../src/system/processor.ts";
import { setSegment } from "../src/system/segment-registers.ts";
import { codeAddress, type FuzzCase, INT3, writeCode, writeData, Xsave } from "./case.ts";
import {
  CODE_BYTES,
  EXITS,
  exitOf,
  FIRST_WRITABLE_SLOT,
  linearOf,
  MEMORY_BYTES,
  physicalOf,
  Selectors,
  SLOTS,
  SlotPages,
  Stub,
} from "./layout.ts";
import { CR3, writeMachine } from "./machine-image.ts";
import { COMPARED_MICROCODE, NO_SURROUNDINGS } from "./microcode.ts";
import type { Outcome, Subject } from "./outcome.ts";

const PAGE = 4096;
/** Branches before a case counts as one that does not end. */
const BUDGET = 1 << 20;
const ARENA_BYTES = 8 << 20;
/** With more than so many blocks those of another batch may not fit. */
const MANY_BLOCKS = 10_000;

const FAULT = { kind: "fault" } as const;

/** Descriptors' attributes: flat segments of ring 3. */
const attributes = {
  data: SegmentAttribute.GRANULARITY | SegmentAttribute.DEFAULT_32 | 0xf3,
  code64: SegmentAttribute.GRANULARITY | SegmentAttribute.LONG | 0xfb,
  code32: SegmentAttribute.GRANULARITY | SegmentAttribute.DEFAULT_32 | 0xfb,
};

/** Compiles the handlers of a whole batch in one module: a module for each case's would take most of the time. */
class BatchHandlers extends Handlers {
  /** Makes other meanings, to see that it is noticed. */
  distort: (mnemonic: string, meaning: Meaning) => Meaning = (_, meaning) => meaning;
  #collecting = false;

  override slotOf(shape: Shape, meaning: Meaning): number {
    return super.slotOf(shape, this.distort(shape.mnemonic, meaning));
  }

  /** Nothing is forgotten in the middle of a batch. */
  override get isFull(): boolean {
    return !this.#collecting && super.isFull;
  }

  override flush(): void {
    if (!this.#collecting) super.flush();
  }

  /** Decoding within `decode` leaves its handlers to be compiled at the end. */
  collect(decode: () => void): void {
    this.#collecting = true;
    try {
      decode();
    } finally {
      this.#collecting = false;
      this.flush();
    }
  }
}

export class InterpreterSubject implements Subject {
  readonly name: string = "interpreter";
  readonly memory: Uint8Array;
  protected readonly blocks: Blocks;
  protected readonly handlers: Handlers;
  readonly #state: CpuState;
  readonly #access: Access;
  readonly #handlers: BatchHandlers;
  readonly #processor: Processor;
  readonly #written: { from: number; to: number }[] = Array.from({ length: SLOTS }, () => ({
    from: 0,
    to: CODE_BYTES,
  }));

  constructor(distort?: BatchHandlers["distort"]) {
    const arena = MEMORY_BYTES + Math.ceil(JumpCache.end / 65536) * 65536;
    const pages = (arena + ARENA_BYTES) / 65536;
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    this.memory = new Uint8Array(memory.buffer, 0, MEMORY_BYTES);
    writeMachine(this.memory);
    const state = new CpuState(memory.buffer, MEMORY_BYTES);
    this.#state = state;
    const map = MemoryMap.create(MEMORY_BYTES);
    map.setSlot({ slot: 0, guestAddress: 0, sizeBytes: MEMORY_BYTES, memoryOffset: 0 });
    const tlb = new LookasideBuffers(state);
    const nothing = { page: -1, read: () => undefined, write: () => false };
    const access = new Access(
      state,
      map,
      {
        tlb,
        walker: new Walker(state, map, memory.buffer, { physicalBits: 46, gigabytePages: true }),
        mmio: new Mmio(nothing),
        watch: new Watchpoints(),
      },
      { codeWritten: (linear, size) => this.blocks.written(linear, size) },
    );
    this.#access = access;
    this.#handlers = new BatchHandlers(memory, MEMORY_BYTES, {
      load: (linear, size, kind) => access.load(linear, size, kind),
      store: (linear, size, kind) => access.store(linear, size, kind),
      segmentFault: (segment) => segmentFault(state, segment),
    });
    if (distort !== undefined) this.#handlers.distort = distort;
    this.handlers = this.#handlers;
    const source: CodeSource = {
      fetch: (linear) => {
        const host = access.fetch(Number(BigInt.asIntN(64, linear)));
        if (host < 0) throw FAULT;
        return host;
      },
      translation: access.walker,
      watch: (page) => {
        map.code.set(page / PAGE);
        tlb.flushWritesTo(page);
      },
      unwatch: (page) => map.code.clear(page / PAGE),
    };
    this.blocks = new Blocks(state, this.#handlers, source, arena, arena + ARENA_BYTES);
    this.#processor = new Processor(state, access, NO_SURROUNDINGS);
    this.#setUp();
  }

  codeChanged(physical: number, size: number): void {
    // A write of the guest's comes in one piece for each page.
    for (let at = physical; at < physical + size; at = (at | (PAGE - 1)) + 1) {
      this.blocks.written(at, Math.min((at | (PAGE - 1)) + 1, physical + size) - at);
    }
  }

  #setUp(): void {
    const state = this.#state;
    state.set64(State.cr0, 0x80010033n);
    state.set64(State.cr3, CR3);
    state.set64(State.cr4, Cr4.PAE | Cr4.OSFXSR | Cr4.OSXMMEXCPT | Cr4.OSXSAVE | Cr4.FSGSBASE);
    state.set64(State.efer, Efer.LME | Efer.LMA | Efer.NXE);
    state.set64(State.xcr0, 7n);
    state.set32(State.cpl, 3);
    this.#access.tlb.select(Tlb.USER);
  }

  /** Runs one case from its beginning. */
  run(fuzzCase: FuzzCase, outcome: Outcome): void {
    this.#setState(fuzzCase);
    const state = this.#state;
    outcome.ending = "exit";
    outcome.vector = 0;
    outcome.error = 0;
    this.#execute(fuzzCase, outcome);
    outcome.flags = state.rflags;
    const view = state.view;
    for (let word = 0; word < 32; word++) {
      outcome.gpr[word] = view.getUint32(state.base + State.gpr + word * 4, true);
    }
    this.#saveVectors(outcome.xsave);
  }

  load(cases: readonly FuzzCase[]): void {
    if (this.handlers.isFull || this.blocks.kept.blocks > MANY_BLOCKS) this.blocks.forgetAll();
    for (const fuzzCase of cases) {
      const { slot } = fuzzCase;
      const code = physicalOf(slot, SlotPages.code.physical);
      const old = this.#written[slot]!;
      this.memory.fill(INT3, code + old.from, code + old.to);
      this.codeChanged(code + old.from, old.to - old.from);
      const now = writeCode(this.memory, code, fuzzCase.code);
      // A program that changes itself may have written anywhere.
      this.#written[slot] = slot < FIRST_WRITABLE_SLOT ? now : { from: 0, to: CODE_BYTES };
      this.codeChanged(code + now.from, now.to - now.from);
      writeData(this.memory, physicalOf(slot, SlotPages.data.physical), fuzzCase.data);
    }
    this.#handlers.collect(() => {
      for (const fuzzCase of cases) {
        this.#setMode(fuzzCase);
        this.prepare(BigInt(codeAddress(fuzzCase.slot, fuzzCase.code[0]!.at)));
      }
    });
    this.loaded();
  }

  /** Decodes ahead what begins at an address of the current case's. */
  protected prepare(rip: bigint): Block | undefined {
    try {
      const found = this.blocks.find(rip, 0n, 0);
      return typeof found === "number" ? this.blocks.peek(rip, 0n) : undefined;
    } catch (error) {
      // It will fault again when it is its turn.
      if (error !== FAULT) throw error;
      this.#forgetFault();
      return undefined;
    }
  }

  /** All cases of a batch have been prepared. */
  protected loaded(): void {}

  /** The case goes on at an address. What is decoded for it may make all other code be forgotten. */
  protected reached(_rip: bigint): void {}

  /** How many branches go by between two looks around. */
  protected readonly slice: number = BUDGET;
  /** That look: the case goes on at this address. */
  protected lookedAround(_rip: bigint): void {}

  /** A region often goes to this address. */
  protected often(_region: number, _base: bigint, _rip: bigint): void {}

  #forgetFault(): void {
    this.#state.view.setInt32(this.#state.base + State.faultVector, -1, true);
  }

  #setMode(fuzzCase: FuzzCase): void {
    const { bits } = fuzzCase;
    const state = this.#state;
    const codeAttributes = bits === 64 ? attributes.code64 : attributes.code32;
    setSegment(state, Seg.CS, bits === 64 ? Selectors.code64 : Selectors.code32, 0n, 0xffffffff, codeAttributes);
    for (const segment of [Seg.ES, Seg.SS, Seg.DS, Seg.FS, Seg.GS]) {
      const base = segment === Seg.FS ? fuzzCase.fsBase : segment === Seg.GS ? fuzzCase.gsBase : 0n;
      setSegment(state, segment, Selectors.data, bits === 64 ? base : 0n, 0xffffffff, attributes.data);
    }
    updateMode(state, this.#access.tlb);
  }

  #setState(fuzzCase: FuzzCase): void {
    const state = this.#state;
    for (let reg = 0; reg < 16; reg++) state.setGpr(reg, fuzzCase.gpr[reg]!);
    state.rflags = fuzzCase.flags;
    this.#setMode(fuzzCase);
    const view = state.view;
    const bytes = new Uint8Array(view.buffer, state.base + State.vector, 512);
    for (let reg = 0; reg < 16; reg++) {
      bytes.set(fuzzCase.xsave.subarray(Xsave.xmm + reg * 16, Xsave.xmm + reg * 16 + 16), reg * 32);
      bytes.set(fuzzCase.xsave.subarray(Xsave.ymmHigh + reg * 16, Xsave.ymmHigh + reg * 16 + 16), reg * 32 + 16);
    }
    const area = new DataView(fuzzCase.xsave.buffer, fuzzCase.xsave.byteOffset);
    state.set32(State.mxcsr, area.getUint32(Xsave.mxcsr, true));
    state.set32(State.fcw, area.getUint16(Xsave.fcw, true));
    const fsw = area.getUint16(Xsave.fsw, true);
    const top = (fsw >> 11) & 7;
    state.set32(State.fsw, fsw & ~0x3800);
    state.set32(State.ftop, top);
    state.set32(State.ftw, fuzzCase.xsave[Xsave.ftw]!);
    const fpr = new Uint8Array(view.buffer, state.base + State.fpr, 128);
    for (let st = 0; st < 8; st++) {
      fpr.set(fuzzCase.xsave.subarray(Xsave.st + st * 16, Xsave.st + st * 16 + 10), ((st + top) & 7) * 16);
    }
  }

  #saveVectors(area: Uint8Array): void {
    const state = this.#state;
    const bytes = new Uint8Array(state.view.buffer, state.base + State.vector, 512);
    for (let reg = 0; reg < 16; reg++) {
      area.set(bytes.subarray(reg * 32, reg * 32 + 16), Xsave.xmm + reg * 16);
      area.set(bytes.subarray(reg * 32 + 16, reg * 32 + 32), Xsave.ymmHigh + reg * 16);
    }
    const view = new DataView(area.buffer, area.byteOffset);
    view.setUint32(Xsave.mxcsr, state.get32(State.mxcsr), true);
    view.setUint16(Xsave.fcw, state.get32(State.fcw), true);
    const top = state.get32(State.ftop) & 7;
    view.setUint16(Xsave.fsw, (state.get32(State.fsw) & ~0x3800) | (top << 11), true);
    area[Xsave.ftw] = state.get32(State.ftw);
    const fpr = new Uint8Array(state.view.buffer, state.base + State.fpr, 128);
    for (let st = 0; st < 8; st++) {
      const at = ((st + top) & 7) * 16;
      area.set(fpr.subarray(at, at + 10), Xsave.st + st * 16);
    }
  }

  #execute(fuzzCase: FuzzCase, outcome: Outcome): void {
    const state = this.#state;
    const { slot } = fuzzCase;
    const stubs = BigInt(linearOf(slot, SlotPages.stubs.linear));
    const exits = BigInt(exitOf(slot, 0));
    this.#forgetFault();
    state.set64(State.blockRip, BigInt(codeAddress(slot, fuzzCase.code[0]!.at)));
    state.set32(State.chain, 0);
    let budget = BUDGET;
    for (;;) {
      const rip = state.get64(State.blockRip);
      if (rip >= exits && rip < stubs + 0x1000n) {
        const offset = Number(rip - exits);
        if (offset % Stub.exitSize !== 0 || offset >= EXITS * Stub.exitSize)
          throw new Error("entered an exit's middle");
        outcome.exit = offset / Stub.exitSize;
        return;
      }
      this.reached(rip);
      let record: number;
      try {
        const found = this.blocks.find(rip, 0n, state.get32(State.chain));
        if (typeof found !== "number") {
          this.#fault(outcome, found.kind === "undefined" ? Vector.UD : Vector.GP, 0, rip, 0n);
          return;
        }
        record = found;
      } catch (error) {
        if (error !== FAULT) throw error;
        this.#recordedFault(outcome, rip);
        return;
      }
      state.set32(State.chain, 0);
      const slice = Math.min(budget, this.slice);
      state.set32(State.budget, slice);
      const reason = this.handlers.enter(record);
      // Each way through here counts, too.
      budget -= slice - state.view.getInt32(state.base + State.budget, true) + 1;
      const at = state.get32(State.record);
      switch (reason) {
        case Return.LOOKUP:
          continue;
        case Return.UNWIND:
          this.#recordedFault(outcome, this.#ripOf(at));
          this.#access.releaseLock();
          return;
        case Return.MICROCODE:
          if (!this.#microcode(fuzzCase, outcome, at)) return;
          continue;
        case Return.RESYNC:
          state.set64(State.blockRip, this.#ripOf(at));
          continue;
        case Return.BUDGET_REPEAT:
          state.set64(State.blockRip, this.#ripOf(at));
          break;
        case Return.BUDGET:
          this.lookedAround(state.get64(State.blockRip));
          break;
        case Return.OFTEN:
          this.often(state.get32(State.region), state.get64(State.regionBase), state.get64(State.blockRip));
          continue;
      }
      if (budget >= 0) continue;
      outcome.ending = "unable";
      outcome.reason = "does not end";
      return;
    }
  }

  #ripOf(record: number): bigint {
    return this.#state.get64(State.blockRip) + BigInt(this.#state.view.getUint32(record + Record.start, true));
  }

  /** What TypeScript does. False when the case has ended. */
  #microcode({ slot }: FuzzCase, outcome: Outcome, record: number): boolean {
    const instruction = this.blocks.instructionAt(record);
    const { mnemonic } = instruction.form;
    const rip = this.#ripOf(record);
    const next = rip + BigInt(instruction.length);
    const target = instruction.operands[0];
    if (COMPARED_MICROCODE.has(mnemonic)) {
      this.#processor.instructionRip = rip;
      this.#processor.rip = next;
      if (execute(this.#processor, instruction) === AccessOutcome.OK) {
        this.#state.set64(State.blockRip, this.#processor.rip);
        return true;
      }
      this.#recordedFault(outcome, rip);
      this.#access.releaseLock();
    } else if (mnemonic === "int3") this.#fault(outcome, Vector.BP, 0, next, 0n);
    else if (mnemonic === "jmpf" && target.kind === "far" && target.selector === Selectors.code64) {
      outcome.exit = (target.value - exitOf(slot, 0)) / Stub.exitSize;
    } else {
      outcome.ending = "unable";
      outcome.reason = mnemonic;
    }
    return false;
  }

  #recordedFault(outcome: Outcome, rip: bigint): void {
    const state = this.#state;
    const vector = state.get32(State.faultVector);
    const address = vector === Vector.PF ? state.get64(State.faultAddress) : 0n;
    this.#fault(outcome, vector, state.get32(State.faultError), rip, address);
  }

  #fault(outcome: Outcome, vector: number, error: number, rip: bigint, address: bigint): void {
    outcome.ending = "fault";
    outcome.vector = vector;
    outcome.error = error;
    outcome.rip = rip;
    outcome.address = address;
  }
}
