/**
 * The meanings of system instructions beside their microcode, in random states: what a meaning does itself comes out the
 * same to the last bit, and where it leaves the instruction to microcode it has changed nothing. LODGE_SEED repeats a run.
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { MeaningProcessor } from "../../../testing/meaning-processor.ts";
import { Random } from "../../../testing/random.ts";
import { CODE64, DATA32, MEMORY, MODES, type Scenario, STACK, scenario, TARGETS } from "../../../testing/scenario.ts";
import { type SoftProcessor, softProcessor } from "../../../testing/soft-processor.ts";
import { State } from "../../cpu/layout.ts";
import type { Processor } from "../../system/processor.ts";
import { getRegs, setRegs } from "../../system/regs.ts";
import { getSregs, setSregs } from "../../system/sregs.ts";
import { getEvents } from "../../system/vcpu-events.ts";

const { LODGE_SEED, LODGE_LONG } = process.env;
const seed = LODGE_SEED === undefined ? Date.now() % 1_000_000_000 : Number(LODGE_SEED);
const CASES = LODGE_LONG ? 4_000 : 200;

/** Those of the scenarios that have meanings. */
const NAMES = new Set([
  ...["pushf", "popf", "cli/sti", "mov from cr", "mov from sreg", "swapgs", "syscall", "sysret", "iret"],
  "rd/wrfsbase",
]);
const CODE = 0x1000;
const NOP = 0x90;
const HLT = 0xf4;
const CR4_SMAP = 1n << 21n;
const CR4_TSD = 1n << 2n;
/** What the scenarios lack, by name: encodings to choose from. */
const MORE = {
  "stac/clac": [
    [0x0f, 0x01, 0xca],
    [0x0f, 0x01, 0xcb],
  ],
  rdtsc: [[0x0f, 0x31]],
  rdtscp: [[0x0f, 0x01, 0xf9]],
  // With DX and with a byte; 8, 16 and 32 bits.
  in: [[0xec], [0xed], [0x66, 0xed], [0xe4, 0x80], [0xe5, 0xf0], [0x66, 0xe5, 0xf0]],
  out: [[0xee], [0xef], [0x66, 0xef], [0xe6, 0x80], [0xe7, 0xf0], [0x66, 0xe7, 0xf0]],
} satisfies Record<string, number[][]>;

/** Ports that answer by their number and size, and what was written to them; some answer nobody in this thread. */
class Ports {
  written: number[] = [];

  readPort(port: number, size: number): number | undefined {
    if (port % 16 === 7) return undefined;
    return (Math.imul(port + 1, 0x9e3779b1) >>> 0) % 2 ** (8 * size);
  }
  writePort(port: number, size: number, value: number): boolean {
    if (port % 16 === 7) return false;
    this.written.push(port, size, value);
    return true;
  }
}

function withPorts<T extends SoftProcessor>(processor: T): { processor: T; ports: Ports } {
  const ports = new Ports();
  const { hooks } = processor.cpu;
  hooks.readPort = (port, size) => ports.readPort(port, size);
  hooks.writePort = (port, size, value) => ports.writePort(port, size, value);
  return { processor, ports };
}

/** What does not show in KVM's records, by name. */
const HIDDEN = {
  mode: State.mode,
  tlb: State.tlb,
  cpl: State.cpl,
  faultVector: State.faultVector,
  nmiMasked: State.nmiMasked,
  eventWaits: State.eventWaits,
  ...Object.fromEntries(Array.from({ length: 12 }, (_, word) => [`base${word}`, State.segmentBase + word * 4])),
  ...Object.fromEntries(Array.from({ length: 64 }, (_, word) => [`segments${word}`, State.segments + word * 4])),
};

function load({ cpu, bytes }: SoftProcessor, { image, state }: Scenario, random: Random): void {
  bytes.set(image);
  cpu.events.clear();
  cpu.state.set32(State.interruptShadow, 0);
  cpu.state.set64(State.shadowRip, 0n);
  setSregs(cpu, state.sregs);
  setRegs(cpu, state.regs);
  cpu.msrs.star = random.bits64();
  cpu.msrs.lstar = BigInt(random.next());
  cpu.msrs.sfmask = BigInt(random.next());
  cpu.msrs.kernelGsBase = BigInt(random.next());
  cpu.msrs.tscAux = BigInt(random.next());
  cpu.state.set64(State.tscOffset, random.bits64());
  cpu.events.nmiMasked = random.chance(0.1);
  cpu.state.set32(State.eventWaits, random.chance(0.2) ? 1 : 0);
}

function snapshot({ cpu, bytes }: SoftProcessor) {
  const { state, msrs } = cpu;
  const hidden = Object.entries(HIDDEN).map(([name, at]) => {
    const value = state.get32(at);
    return [name, at === State.tlb ? value - state.base : value];
  });
  return {
    ...{ regs: getRegs(cpu), sregs: getSregs(cpu), events: getEvents(cpu), shadowRip: state.get64(State.shadowRip) },
    ...{ kernelGsBase: msrs.kernelGsBase, hidden: Object.fromEntries(hidden) },
    memory: Buffer.from(bytes.subarray(0, MEMORY)),
  };
}

/** A NOP goes first, and what the scenario has follows; some are made into what scenarios lack. */
function prepared(random: Random, mode: (typeof MODES)[number]): Scenario | undefined {
  const made = scenario(random, { mode, tssType: 11, oddStacks: true });
  const { image, state } = made;
  if (mode === "long" && random.chance(0.7)) makeUsual(made, random);
  const more =
    mode === "long" && random.chance(0.2) ? random.pick(Object.keys(MORE) as (keyof typeof MORE)[]) : undefined;
  if (!NAMES.has(made.name) && more === undefined) return undefined;
  const code = more ? Uint8Array.of(...random.pick(MORE[more]), HLT) : image.slice(CODE, CODE + 15);
  image[CODE] = NOP;
  image.set(code, CODE + 1);
  const smap = mode === "long" && random.chance(0.5) ? CR4_SMAP : 0n;
  const tsd = mode === "long" && random.chance(0.3) ? CR4_TSD : 0n;
  const sregs = { ...state.sregs, cr4: state.sregs.cr4 | smap | tsd };
  return { ...made, name: more ?? made.name, state: { ...state, sregs } };
}

/** What kernels do: IRETQ between rings 0 and 3 by flat segments, with no others loaded. */
function makeUsual({ name, image, state: { sregs } }: Scenario, random: Random): void {
  for (const segment of [sregs.ds, sregs.es, sregs.fs, sregs.gs]) {
    Object.assign(segment, { selector: 0, unusable: 1, present: 0, limit: 0, type: 0, s: 0, db: 0, g: 0, dpl: 0 });
  }
  if (name !== "iret") return;
  image.set([0x48, 0xcf], CODE);
  const ring = random.pick([0, 3]);
  const data = ring === 0 && random.chance(0.5) ? 0 : (DATA32 + ring) * 8 + ring;
  const flags = random.next() & 0x244ed5 & (random.chance(0.5) ? ~0x44000 : ~0);
  const frame = [TARGETS, (CODE64 + ring) * 8 + ring, flags, random.next(), data];
  const view = new DataView(image.buffer);
  for (const [index, word] of frame.entries()) view.setBigUint64(STACK + index * 8, BigInt(word >>> 0), true);
}

for (const mode of MODES) {
  test(`${mode}: meanings of system instructions beside microcode (seed ${seed})`, (t) => {
    const { processor: slow, ports: slowPorts } = withPorts(softProcessor(MEMORY));
    const quick = new MeaningProcessor(MEMORY);
    const { ports: quickPorts } = withPorts(quick.soft);
    const done = new Map<string, number>();
    let compared = 0;
    // Until each was done once, if that ever comes.
    const isMissing = () => mode === "long" && [...NAMES, ...Object.keys(MORE)].some((name) => !done.has(name));
    for (let index = 0; compared < CASES || (isMissing() && index < 100 * CASES); index++) {
      const caseSeed = seed * 1_000_003 + index;
      const made = prepared(new Random(caseSeed), mode);
      if (made === undefined) continue;
      compared++;
      for (const how of ["interpreted", "compiled"] as const) {
        const what: string = `${made.name}, ${how}, ${mode}, LODGE_SEED=${seed}, case ${index}`;
        load(slow, made, new Random(caseSeed));
        load(quick.soft, made, new Random(caseSeed));
        const before = snapshot(quick.soft);
        if (quick.run(how)) done.set(made.name, (done.get(made.name) ?? 0) + 1);
        else {
          // Reads of its operands may have marked page table entries.
          const expected = { ...before, regs: { ...before.regs, rip: before.regs.rip + 1n } };
          const { memory, ...rest } = expected;
          const { memory: _, ...now } = snapshot(quick.soft);
          assert.deepEqual(now, rest, `${what}: left to microcode, yet changed`);
          quick.soft.run(1);
        }
        slow.cpu.rip += 1n;
        slow.run(1);
        settle(slow.cpu, quick.soft.cpu);
        assert.deepEqual(snapshot(quick.soft), snapshot(slow), what);
        assert.deepEqual(quickPorts.written, slowPorts.written, what);
      }
    }
    t.diagnostic(`done by meanings: ${JSON.stringify(Object.fromEntries(done))}`);
    assert.ok(!isMissing(), "some instruction was always microcode");
  });
}

/** What the two keep differently and nobody sees: the run loop of one clears RF after an instruction. */
function settle(slow: Processor, quick: Processor): void {
  const RF = 0x10000;
  for (const { state } of [slow, quick]) state.set32(State.flagRest, state.get32(State.flagRest) & ~RF);
}
