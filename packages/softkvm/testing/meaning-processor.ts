/** A processor that does an instruction by its meaning, interpreted or compiled, where a {@link SoftProcessor} does it by microcode. */

import { Compiler } from "../src/compiler/compiler.ts";
import { State } from "../src/cpu/layout.ts";
import { Blocks } from "../src/interpreter/blocks.ts";
import { Handlers, JumpCache, type QuickPaths } from "../src/interpreter/handlers.ts";
import { Record, Return } from "../src/interpreter/record.ts";
import { MemoryMap } from "../src/mmu/memory-map.ts";
import { takeFault } from "../src/system/exceptions.ts";
import { segmentFault } from "../src/system/mode.ts";
import { FULL_CPUID, type SoftProcessor, softProcessor } from "./soft-processor.ts";

const ARENA_BYTES = 2 << 20;

export class MeaningProcessor {
  readonly soft: SoftProcessor;
  readonly #handlers: Handlers;
  readonly #blocks: Blocks;
  readonly #compiler: Compiler;

  /** `memoryBytes`: a multiple of 64 KiB. */
  constructor(memoryBytes: number) {
    const arena = memoryBytes + JumpCache.end;
    const codeAt = arena + ARENA_BYTES;
    const pages = Math.ceil((codeAt + MemoryMap.codeBytes(memoryBytes)) / 65536);
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    this.soft = softProcessor(memoryBytes, FULL_CPUID, memory.buffer, codeAt);
    const { state, memory: access } = this.soft.cpu;
    state.set32(State.codeBits, codeAt);
    this.#handlers = new Handlers(memory, memoryBytes, {
      load: (linear, size, kind) => access.load(linear, size, kind),
      store: (linear, size, kind) => access.store(linear, size, kind),
      segmentFault: (segment) => segmentFault(state, segment),
      portRead: (port, size) => this.soft.cpu.hooks.readPort(port, size, 1) ?? -1,
      portWrite: (port, size, value) => (this.soft.cpu.hooks.writePort(port, size, value >>> 0, 1) ? 1 : 0),
    });
    const fetch = (linear: bigint) => {
      const at = access.fetch(Number(BigInt.asIntN(64, linear)));
      if (at < 0) throw new Error(`no code at 0x${linear.toString(16)}`);
      return at;
    };
    const source = { fetch, translation: access.walker, watch: () => {}, unwatch: () => {} };
    this.#blocks = new Blocks(state, this.#handlers, source, arena, arena + ARENA_BYTES);
    this.#compiler = new Compiler(this.#blocks, this.#handlers, memoryBytes);
  }

  /** {@link Handlers.quick}. */
  get quick(): QuickPaths {
    return this.#handlers.quick;
  }

  /**
   * Executes a NOP at RIP and the instruction behind it. False: the instruction is left to microcode. An exception is
   * pending afterwards.
   */
  run(how: "interpreted" | "compiled"): boolean {
    const { cpu, view } = this.soft;
    const { state } = cpu;
    const rip = cpu.rip;
    const base = state.get64(State.segmentBase + 8);
    this.#blocks.forgetAll();
    const first = this.#blocks.find(rip, base, 0);
    if (typeof first !== "number") throw new Error("the NOP was not decoded");
    const block = this.#blocks.peek(rip, base)!;
    if (block.length === 1) {
      // There is no such instruction in this mode.
      cpu.rip = rip + 1n;
      return false;
    }
    if (how === "compiled") {
      while (block.region === undefined) this.#compiler.sample(block);
    }
    state.set64(State.blockRip, rip);
    // Ends at whatever branches, or at the HLT that follows what does not.
    state.set32(State.budget, 0);
    const reason = this.#handlers.enter(first);
    state.set32(State.chain, 0);
    const record = state.get32(State.record);
    const start = () => rip + BigInt(view.getUint32(record + Record.start, true));
    switch (reason) {
      case Return.LOOKUP:
      case Return.BUDGET:
        cpu.rip = state.get64(State.blockRip);
        return true;
      case Return.UNWIND:
        cpu.rip = start();
        takeFault(cpu);
        return true;
      case Return.MICROCODE:
        cpu.rip = start();
        return cpu.rip > rip + 1n;
      default:
        throw new Error(`the meaning came back for reason ${reason}`);
    }
  }
}
