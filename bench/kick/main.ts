/**
 * How long a kick takes to stop a software vCPU that runs a tight loop: from the call of `kick` in one thread to the return
 * of `run` in the vCPU's, by the clock that both share; and how long the vCPU's thread was on a processor meanwhile. The rest of the time another thread
 * was, or the host of this machine had taken the processor away.
 */

import { readFileSync } from "node:fs";
import { enableCompileCache } from "node:module";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import type { KickHandle } from "@lodge/kvm";
import { processorTimeUs } from "@lodge/linux";
import { openSoft } from "@lodge/softkvm";
import {
  type CompilerLink,
  compileThread,
  LinkState,
  LinkWord,
} from "../../packages/machine/src/vcpu/compiler-link.ts";
import { CompilerThread } from "../../packages/machine/src/vcpu/compiler-thread.ts";
import { startWorker } from "../../packages/machine/src/vcpu/started-thread.ts";
import { BUILD } from "../compile.ts";
import { compileGuest, workloads } from "../cpu/programs.ts";
import { MEMORY_BYTES as PROGRAM_BYTES } from "../cpu/protocol.ts";
import type { Figure, Results } from "../harness.ts";
import { CODE, LOOPS, Word } from "./loops.ts";

const KICKS = 400;
const QUICK_KICKS = 50;
/** Kicks that come before, while the vCPU starts up and V8 finds out what is hot. */
const WARM_UP = 20;
const MEMORY_BYTES = 2 ** 20;
/** Of a program that begins: in the time in which most of what it runs is compiled. */
const FIRST_KICKS = 100;
const MACHINES = 8;

export default async function run({ quick = false }: { quick?: boolean } = {}): Promise<Results> {
  const figures: Figure[] = [];
  const { integer } = Object.fromEntries(workloads.map((workload) => [workload.name, workload]));
  const elf = readFileSync(compileGuest(integer!));
  const program = { code: elf, entry: undefined, memoryBytes: PROGRAM_BYTES };
  // The threads are a machine's, which have what the ones before them have compiled: one comes before all.
  enableCompileCache(join(BUILD, "kept"));
  await measure(program, { isBeside: false, warmUp: 0, count: FIRST_KICKS });
  for (const loop of Object.keys(LOOPS)) {
    const code = Uint8Array.from(LOOPS[loop as keyof typeof LOOPS]);
    const guest = { code, entry: CODE, memoryBytes: MEMORY_BYTES };
    const kicks = await measure(guest, { isBeside: true, warmUp: WARM_UP, count: quick ? QUICK_KICKS : KICKS });
    figures.push(...figuresOf(`kick of ${loop}`, kicks));
  }
  for (const isBeside of [true, false]) {
    const kicks: Kick[] = [];
    for (let machine = 0; machine < (quick ? 2 : MACHINES); machine++) {
      kicks.push(...(await measure(program, { isBeside, warmUp: 0, count: FIRST_KICKS })));
    }
    figures.push(...figuresOf(`kick of a program that begins, compiled ${isBeside ? "beside" : "in place"}`, kicks));
  }
  return { against: "nothing", comparisons: [], figures };
}

function figuresOf(what: string, kicks: readonly Kick[]): Figure[] {
  const of = (values: number[], share: number) => {
    return values.sort((one, other) => one - other)[Math.min(values.length - 1, Math.floor(values.length * share))]!;
  };
  const us = kicks.map(({ us }) => us);
  const busy = kicks.map(({ busyUs }) => busyUs);
  return [
    { what: `${what}, median`, unit: "us", value: of(us, 0.5) },
    { what: "  of 100 the slowest but one", unit: "us", value: of(us, 0.99) },
    { what: "  the slowest", unit: "us", value: of(us, 1) },
    { what: "  of a processor's time, of 100 the most but one", unit: "us", value: of(busy, 0.99) },
    { what: "  the most of a processor's time", unit: "us", value: of(busy, 1) },
    {
      what: "  of 1000 more than 1 ms of it",
      unit: "",
      value: (1000 * busy.filter((us) => us > 1000).length) / busy.length,
    },
  ];
}

interface Kick {
  us: number;
  /** The processor's time that the vCPU's thread took from before the kick until it had stopped. */
  busyUs: number;
}

/** What the vCPU runs: flat code from its entry on, or an ELF file. */
export interface KickedGuest {
  readonly code: Uint8Array;
  readonly entry: number | undefined;
  readonly memoryBytes: number;
}

/** `isBeside`: whether another thread compiles, as in a machine. */
async function measure(
  guest: KickedGuest,
  { isBeside, warmUp, count }: { isBeside: boolean; warmUp: number; count: number },
): Promise<Kick[]> {
  using soft = openSoft();
  const memory = soft.createMemory(guest.memoryBytes);
  using vm = soft.createVm(memory);
  vm.setMemorySlot({ slot: 0, guestAddress: 0, sizeBytes: guest.memoryBytes, memoryOffset: 0 });
  if (guest.entry === undefined) vm.createIrqchip();
  const words = new Int32Array(new SharedArrayBuffer(Word.count * 4));
  const stopped = new BigInt64Array(new SharedArrayBuffer(8));
  const busy = new Float64Array(new SharedArrayBuffer(8));
  await using compiler = isBeside ? new CompilerThread(1) : undefined;
  const link = compiler?.links[0];
  if (link !== undefined) await loaded(link);
  const workerData = { handle: vm.handle, guest, words, stopped, busy, link };
  const transferList = link === undefined ? [] : [link.port];
  const thread = startWorker(new URL("./vcpu.ts", import.meta.url), workerData, { transferList });
  const ended = new Promise((resolve, reject) => thread.once("exit", resolve).once("error", reject));
  const { handle, threadId } = await new Promise<{ handle: KickHandle; threadId: number }>((resolve) =>
    thread.once("message", resolve),
  );
  const kicker = soft.attachKicker(handle);
  const kicks: Kick[] = [];
  for (let round = 0; round < warmUp + count; round++) {
    // Anywhere in the vCPU's budget.
    await setTimeout(1 + Math.random() * 4);
    if (round === warmUp + count - 1) Atomics.store(words, Word.last, 1);
    const before = processorTimeUs(threadId);
    const start = process.hrtime.bigint();
    kicker.kick();
    Atomics.wait(words, Word.stops, round);
    if (round >= warmUp) kicks.push({ us: Number(stopped[0]! - start) / 1000, busyUs: busy[0]! - before });
  }
  await ended;
  return kicks;
}

/** A machine's begins when much has been compiled; here the guest begins with it. */
async function loaded(link: CompilerLink): Promise<void> {
  compileThread(link).want();
  await Atomics.waitAsync(new Int32Array(link.words), LinkWord.state, LinkState.WANTED).value;
}
