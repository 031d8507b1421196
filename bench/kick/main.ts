/**
 * How long a kick takes to stop a software vCPU that runs a tight loop: from the call of `kick` in one thread to the return
 * of `run` in the vCPU's, by the clock that both share; and how long the vCPU's thread was on a processor meanwhile. The rest of the time another thread
 * was, or the host of this machine had taken the processor away.
 */

import { setTimeout } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import type { KickHandle } from "@lodge/kvm";
import { processorTimeUs } from "@lodge/linux";
import { openSoft } from "@lodge/softkvm";
import { CompilerThread } from "../../packages/machine/src/vcpu/compiler-thread.ts";
import type { Figure, Results } from "../harness.ts";
import { LOOPS, Word } from "./loops.ts";

const KICKS = 400;
const QUICK_KICKS = 50;
/** Kicks that come before, while the vCPU starts up and V8 finds out what is hot. */
const WARM_UP = 20;
const MEMORY_BYTES = 2 ** 20;

export default async function run({ quick = false }: { quick?: boolean } = {}): Promise<Results> {
  const figures: Figure[] = [];
  for (const loop of Object.keys(LOOPS)) {
    const kicks = await measure(loop, quick ? QUICK_KICKS : KICKS);
    const us = kicks.map(({ us }) => us).sort((one, other) => one - other);
    const at = (share: number) => us[Math.min(us.length - 1, Math.floor(us.length * share))]!;
    figures.push({ what: `kick of ${loop}, median`, unit: "us", value: at(0.5) });
    figures.push({ what: "  of 100 the slowest but one", unit: "us", value: at(0.99) });
    figures.push({ what: "  the slowest", unit: "us", value: at(1) });
    const busy = Math.max(...kicks.map(({ busyUs }) => busyUs));
    figures.push({ what: "  the most of a processor's time", unit: "us", value: busy });
  }
  return { against: "nothing", comparisons: [], figures };
}

interface Kick {
  us: number;
  /** The processor's time that the vCPU's thread took from before the kick until it had stopped. */
  busyUs: number;
}

async function measure(loop: string, count: number): Promise<Kick[]> {
  using soft = openSoft();
  const memory = soft.createMemory(MEMORY_BYTES);
  using vm = soft.createVm(memory);
  vm.setMemorySlot({ slot: 0, guestAddress: 0, sizeBytes: MEMORY_BYTES, memoryOffset: 0 });
  const words = new Int32Array(new SharedArrayBuffer(Word.count * 4));
  const stopped = new BigInt64Array(new SharedArrayBuffer(8));
  const busy = new Float64Array(new SharedArrayBuffer(8));
  await using compiler = new CompilerThread(1);
  const [link] = compiler.links;
  const workerData = { handle: vm.handle, loop, words, stopped, busy, link };
  const thread = new Worker(new URL("./vcpu.ts", import.meta.url), { workerData, transferList: [link!.port] });
  const ended = new Promise((resolve, reject) => thread.once("exit", resolve).once("error", reject));
  const { handle, threadId } = await new Promise<{ handle: KickHandle; threadId: number }>((resolve) =>
    thread.once("message", resolve),
  );
  const kicker = soft.attachKicker(handle);
  const kicks: Kick[] = [];
  for (let round = 0; round < WARM_UP + count; round++) {
    // Anywhere in the vCPU's budget.
    await setTimeout(1 + Math.random() * 4);
    if (round === WARM_UP + count - 1) Atomics.store(words, Word.last, 1);
    const before = processorTimeUs(threadId);
    const start = process.hrtime.bigint();
    kicker.kick();
    Atomics.wait(words, Word.stops, round);
    if (round >= WARM_UP) kicks.push({ us: Number(stopped[0]! - start) / 1000, busyUs: busy[0]! - before });
  }
  await ended;
  return kicks;
}
