/** A processor in a thread of its own: sends interrupts to the others and counts those that it takes. */

import { parentPort, workerData } from "node:worker_threads";
import { InterruptController } from "../interrupt-controller.ts";
import { Reg } from "../lapic-registers.ts";
import { VcpuInterrupts } from "../vcpu-interrupts.ts";

export interface IpiTask {
  area: SharedArrayBuffer;
  /** A word for each processor to sleep on, one to start by, how many have sent all, and what is under way between each two. */
  words: SharedArrayBuffer;
  processors: number;
  index: number;
  rounds: number;
}

const APIC = 0xfee00000;
const PING = 0x80;
const { area, words: wordBuffer, processors, index, rounds } = workerData as IpiTask;
const words = new Int32Array(wordBuffer);
const START = processors;
const FINISHED = processors + 1;

const controller = new InterruptController(area, 0, processors, {
  wake: (target) => {
    Atomics.store(words, target, 1);
    Atomics.notify(words, target);
  },
  resample: () => {},
  nowNs: () => performance.now() * 1e6,
});
const vcpu = new VcpuInterrupts(controller, index, { nowNs: () => performance.now() * 1e6, tscToNs: Number });
vcpu.writeMmio(APIC + Reg.SVR, 4, 0x1ff);

let sent = 0;
const taken: number[] = new Array(processors).fill(0);

/** Vectors say who sent. The bits merge, so each sender waits until its target has taken the one before. */
const outstanding = new Int32Array(wordBuffer, 4 * (processors + 2));
const slot = (from: number, to: number) => from * processors + to;

function serve(): void {
  for (let vector = vcpu.acknowledge(); vector >= 0; vector = vcpu.acknowledge()) {
    const from = vector - PING;
    taken[from]!++;
    Atomics.sub(outstanding, slot(from, index), 1);
    vcpu.writeMmio(APIC + Reg.EOI, 4, 0);
    // Its sender may wait for this.
    Atomics.store(words, from, 1);
    Atomics.notify(words, from);
  }
}

parentPort!.postMessage("ready");
Atomics.wait(words, START, 0);
const targets = Array.from({ length: processors }, (_, target) => target).filter((target) => target !== index);
const left = new Map(targets.map((target) => [target, rounds]));
let finished = false;
while (Atomics.load(words, FINISHED) < processors) {
  Atomics.exchange(words, index, 0);
  serve();
  for (const [target, count] of left) {
    if (count === 0 || Atomics.load(outstanding, slot(index, target)) !== 0) continue;
    Atomics.add(outstanding, slot(index, target), 1);
    vcpu.writeMmio(APIC + Reg.ICR2, 4, (target << 24) >>> 0);
    vcpu.writeMmio(APIC + Reg.ICR, 4, 0x4000 | (PING + index));
    left.set(target, count - 1);
    sent++;
  }
  const done = targets.every(
    (target) => left.get(target) === 0 && Atomics.load(outstanding, slot(index, target)) === 0,
  );
  if (done && !finished) {
    finished = true;
    Atomics.add(words, FINISHED, 1);
    for (let target = 0; target < processors; target++) {
      Atomics.store(words, target, 1);
      Atomics.notify(words, target);
    }
  }
  // A lost wake-up shows as a sleep that lasts for good.
  if (Atomics.wait(words, index, 0, 20_000) === "timed-out") break;
}
parentPort!.postMessage({ sent, taken });
