/** A processor without fast code for tests of the cold side: every instruction is microcode. */

import { STATE_SIZE, State } from "../src/cpu/layout.ts";
import { CpuState, Flag } from "../src/cpu/state.ts";
import { Decoder } from "../src/decode/decoder.ts";
import { Instruction, Status } from "../src/decode/instruction.ts";
import { Access, Outcome } from "../src/mmu/access.ts";
import { MemoryMap } from "../src/mmu/memory-map.ts";
import { Mmio } from "../src/mmu/mmio.ts";
import { LookasideBuffers } from "../src/mmu/tlb.ts";
import { Walker } from "../src/mmu/walk.ts";
import { Watchpoints } from "../src/mmu/watchpoints.ts";
import { deliverPending, takeFault } from "../src/system/exceptions.ts";
import { execute } from "../src/system/execute.ts";
import { GUEST_EXIT } from "../src/system/faults.ts";
import type { Cpuid } from "../src/system/features.ts";
import { Processor, type ProcessorHooks } from "../src/system/processor.ts";
import { resetProcessor } from "../src/system/reset.ts";
import { MICROCODE } from "../src/system/table.ts";

export interface SoftProcessor {
  readonly cpu: Processor;
  readonly map: MemoryMap;
  readonly view: DataView;
  readonly bytes: Uint8Array;
  halted: boolean;
  shutdown: boolean;
  apicBase: bigint;
  /** Executes until HLT, shutdown, a request to the monitor, or so many instructions; or where no test program goes. */
  run(limit?: number): "halt" | "shutdown" | "exit" | "limit" | "hole" | "no-microcode";
}

/** Everything that the semantics here can do. */
export const FULL_CPUID: Cpuid = (leaf, subleaf) => {
  const none = { eax: 0, ebx: 0, ecx: 0, edx: 0 };
  switch (leaf >>> 0) {
    case 0:
      return { ...none, eax: 0xd, ebx: 0x756e6547 };
    case 1:
      return { ...none, eax: 0x000906a0, ecx: (1 << 17) | (1 << 26) | (1 << 21), edx: ~0 & ~2 };
    case 7:
      return { ...none, ebx: 1 | (1 << 7) | (1 << 20), ecx: 4 };
    case 0xd:
      return subleaf === 0 ? { ...none, eax: 7 } : { ...none, eax: 0xf };
    case 0x80000000:
      return { ...none, eax: 0x80000008 };
    case 0x80000001:
      return { ...none, edx: (1 << 11) | (1 << 20) | (1 << 26) | (1 << 27) | (1 << 29) };
    case 0x80000008:
      return { ...none, eax: 0x3028 };
    default:
      return none;
  }
};

/**
 * `buffer`: its memory with the state behind, where it is not made here; `codeAt`: where in it the bits of pages are that
 * hold code.
 */
export function softProcessor(
  memoryBytes: number,
  cpuid: Cpuid = FULL_CPUID,
  buffer: ArrayBufferLike = new SharedArrayBuffer(memoryBytes + STATE_SIZE),
  codeAt?: number,
): SoftProcessor {
  const map = MemoryMap.create(memoryBytes, codeAt === undefined ? undefined : { buffer, at: codeAt });
  map.setSlot({ slot: 0, guestAddress: 0, sizeBytes: memoryBytes, memoryOffset: 0 });
  const state = new CpuState(buffer, memoryBytes);
  const mmio = new Mmio({ page: -1, read: () => undefined, write: () => false });
  const walker = new Walker(state, map, buffer, { physicalBits: 40, gigabytePages: true });
  const tlb = new LookasideBuffers(state);
  const parts = { tlb, walker, mmio, watch: new Watchpoints() };
  const memory = new Access(state, map, parts, { codeWritten: () => {} });
  let priority = 0;
  const self: SoftProcessor = {
    cpu: undefined as unknown as Processor,
    map,
    view: new DataView(buffer),
    bytes: new Uint8Array(buffer),
    halted: false,
    shutdown: false,
    apicBase: 0xfee00900n,
    run,
  };
  const hooks: ProcessorHooks = {
    cpuid,
    readMsr: () => undefined,
    writeMsr: () => false,
    // A clock that stands still at the guest's offset.
    readTsc: () => state.get64(State.tscOffset),
    writeTsc: () => {},
    readTpr: () => priority,
    writeTpr: (value) => {
      priority = value;
    },
    readApicBase: () => self.apicBase,
    writeApicBase: (value) => {
      self.apicBase = value;
      return true;
    },
    readPort: () => undefined,
    writePort: () => false,
    random: () => 0n,
    hypercall: () => false,
    halt: () => {
      self.halted = true;
    },
    tripleFault: () => {
      self.shutdown = true;
    },
    modeChanged: () => {},
    translationsFlushed: () => {},
    deliverQuickly: () => false,
    interruptsMayFlow: () => {},
  };
  const cpu = new Processor(state, memory, hooks);
  cpu.updateFeatures();
  (self as { cpu: Processor }).cpu = cpu;
  resetProcessor(cpu, "power-up");

  const decoder = new Decoder();
  const instruction = new Instruction();
  const code = new Uint8Array(16);

  let hole = false;

  /** Fetches and decodes; false when that faulted, or nothing was there. */
  function fetch(): boolean {
    const bits = ([16, 32, 64] as const)[state.get32(State.mode) & 3]!;
    let length = 0;
    for (;;) {
      const status = decoder.decode(code, 0, length, bits, instruction);
      if (status === Status.OK) return true;
      if (status !== Status.MORE) {
        state.raise(status === Status.UNDEFINED ? 6 : 13);
        return false;
      }
      const offset = cpu.rip + BigInt(length);
      const base = state.get64(State.segmentBase + 8);
      if (bits !== 64 && Number(offset) > state.get32(State.segments + 32 + 8)) {
        state.raise(13);
        return false;
      }
      const va = bits === 64 ? Number(BigInt.asIntN(64, offset)) : Number(BigInt.asUintN(32, base + offset));
      const at = memory.fetch(va);
      if (at < 0) {
        hole = at === -2;
        return false;
      }
      code[length++] = self.bytes[at]!;
    }
  }

  function run(limit = 100): ReturnType<SoftProcessor["run"]> {
    self.halted = false;
    for (let count = 0; count < limit; count++) {
      try {
        if (!deliverPending(cpu)) return "shutdown";
      } catch (error) {
        if (error !== GUEST_EXIT) throw error;
        return "exit";
      }
      cpu.instructionRip = cpu.rip;
      let outcome: Outcome = Outcome.FAULT;
      hole = false;
      if (fetch()) {
        const bits = instruction.bits === 64 ? 64 : instruction.bits === 32 ? 32 : 16;
        cpu.rip = BigInt.asUintN(bits, cpu.rip + BigInt(instruction.length));
        const shadow = state.get32(State.interruptShadow);
        if (MICROCODE[instruction.form.mnemonic] === undefined) return "no-microcode";
        outcome = execute(cpu, instruction);
        // It is over after this instruction, unless this one began it.
        if (outcome === Outcome.OK && shadow !== 0) state.set32(State.interruptShadow, 0);
      }
      if (hole) return "hole";
      if (outcome === Outcome.FAULT) {
        cpu.rip = cpu.instructionRip;
        takeFault(cpu);
      } else if (outcome === Outcome.EXIT) {
        cpu.rip = cpu.instructionRip;
        return "exit";
      } else {
        if (instruction.form.mnemonic !== "iret") {
          state.set32(State.flagRest, state.get32(State.flagRest) & ~Flag.RF);
        }
        mmio.clear();
        if (self.halted) return "halt";
      }
    }
    return "limit";
  }
  return self;
}
