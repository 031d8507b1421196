/**
 * What an idle guest costs: processor time of this process, all of its threads, over a while in which a guest is halted,
 * for good and woken by its timer as often as an operating system's tick comes. Nothing else here runs meanwhile.
 */

import { setTimeout } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import type { KickHandle } from "@lodge/kvm";
import { openSoft } from "@lodge/softkvm";
import type { Figure, Results } from "../harness.ts";

const WINDOW_MS = 5000;
const QUICK_MS = 1000;

/** What the guest counts its interrupts in. */
const TICKS = 0x500;

export const GUESTS = {
  "a halted guest": 0,
  "a halted guest with a tick of 100 Hz": 100,
  "a halted guest with a tick of 1000 Hz": 1000,
} as const;

export default async function run({ quick = false }: { quick?: boolean } = {}): Promise<Results> {
  const ms = quick ? QUICK_MS : WINDOW_MS;
  const figures: Figure[] = [];
  for (const [what, hz] of Object.entries(GUESTS)) {
    const { percent, ticks } = await measure(hz, ms);
    figures.push({ what, unit: "% of a core", value: percent });
    if (hz > 0) figures.push({ what: "  its ticks", unit: "a second", value: (ticks * 1000) / ms });
  }
  return { against: "nothing", comparisons: [], figures };
}

async function measure(hz: number, ms: number): Promise<{ percent: number; ticks: number }> {
  using soft = openSoft();
  const memory = soft.createMemory(65536);
  using vm = soft.createVm(memory);
  vm.setMemorySlot({ slot: 0, guestAddress: 0, sizeBytes: 65536, memoryOffset: 0 });
  vm.createIrqchip();
  vm.createPit();
  const thread = new Worker(new URL("./vcpu.ts", import.meta.url), { workerData: { handle: vm.handle, hz } });
  const ended = new Promise((resolve, reject) => thread.once("exit", resolve).once("error", reject));
  const kick = await new Promise<KickHandle>((resolve) => thread.once("message", resolve));
  // It starts up, and V8 finishes what it has to compile.
  await setTimeout(ms / 2);
  const count = new DataView(memory.buffer);
  const ticks = count.getUint32(TICKS, true);
  const before = process.cpuUsage();
  const start = performance.now();
  await setTimeout(ms);
  const { user, system } = process.cpuUsage(before);
  const elapsedUs = (performance.now() - start) * 1000;
  const counted = count.getUint32(TICKS, true) - ticks;
  soft.attachKicker(kick).kick();
  await ended;
  return { percent: (100 * (user + system)) / elapsedUs, ticks: counted };
}
