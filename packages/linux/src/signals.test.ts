import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { refused } from "../testing/refusal.ts";
import {
  blockedSignals,
  blockSignals,
  consumeSignal,
  gettid,
  ignoreSignal,
  SIGRTMIN,
  sendSignal,
  signalSet,
  unblockSignals,
} from "./signals.ts";

/** A signal that nothing else in a Node process uses. */
const KICK = SIGRTMIN + 5;
const bit = (signal: number) => 1n << BigInt(signal - 1);

/** A signal set of the kernel's own telling, such as SigBlk, for a thread of ours. */
function status(tid: number, name: string): bigint {
  const text = readFileSync(`/proc/self/task/${tid}/status`, "utf8");
  return BigInt(`0x${new RegExp(`^${name}:\\s+(\\w+)`, "m").exec(text)![1]}`);
}

test("gettid of the main thread is the process", () => {
  assert.equal(gettid(), process.pid);
});

test("a signal sent to a thread that blocks it is consumed there", async () => {
  const worker = new Worker(new URL("../testing/signalled.ts", import.meta.url), { workerData: { signal: KICK } });
  const [tid] = await once(worker, "message");
  assert.notEqual(tid, process.pid);
  assert.equal(status(tid, "SigBlk") & bit(KICK), bit(KICK));
  assert.equal(blockedSignals() & bit(KICK), 0n, "this thread does not block it");

  // Real-time signals queue: three sent are three pending.
  for (let sent = 0; sent < 3; sent++) assert.equal(sendSignal(process.pid, tid, KICK), true);
  assert.equal(status(tid, "SigPnd") & bit(KICK), bit(KICK));
  worker.postMessage("consume");
  assert.deepEqual(await once(worker, "message"), [[KICK, KICK, KICK]]);
  worker.postMessage("consume");
  assert.deepEqual(await once(worker, "message"), [[]]);

  await worker.terminate();
  // The kernel wakes whoever joins a thread a moment before it forgets the thread.
  while (sendSignal(process.pid, tid, KICK)) await setImmediate();
  assert.equal(sendSignal(process.pid, tid, KICK), false);
});

test("blocking, consuming and unblocking on this thread", () => {
  const set = signalSet(KICK, KICK + 1);
  const before = blockedSignals();
  blockSignals(KICK, KICK + 1);
  assert.equal(blockedSignals(), before | bit(KICK) | bit(KICK + 1));
  assert.equal(status(process.pid, "SigBlk"), blockedSignals());
  assert.equal(consumeSignal(set), 0);
  sendSignal(process.pid, process.pid, KICK + 1);
  sendSignal(process.pid, process.pid, KICK);
  assert.deepEqual([consumeSignal(set), consumeSignal(set), consumeSignal(set)], [KICK, KICK + 1, 0], "lowest first");
  unblockSignals(KICK, KICK + 1);
  assert.equal(blockedSignals(), before);
});

test("an ignored signal has no effect, and becomes pending where it is blocked", () => {
  const set = signalSet(KICK);
  ignoreSignal(KICK);
  assert.equal(status(process.pid, "SigIgn") & bit(KICK), bit(KICK));
  // Its default action would end this process.
  assert.equal(sendSignal(process.pid, process.pid, KICK), true);
  blockSignals(KICK);
  assert.equal(consumeSignal(set), 0);
  sendSignal(process.pid, process.pid, KICK);
  assert.equal(consumeSignal(set), KICK);
  unblockSignals(KICK);
});

test("a set holds exactly its signals", () => {
  for (let signal = 1; signal <= 64; signal++) assert.equal(signalSet(signal)[0], bit(signal));
  assert.equal(signalSet()[0], 0n);
  assert.equal(signalSet(1, 64, 1)[0], bit(1) | bit(64));
  for (const wrong of [0, -1, 65, Number.NaN]) {
    assert.throws(() => signalSet(wrong), { name: "RangeError", message: `signal ${wrong}: a signal is 1 to 64` });
  }
});

test("each refusal names its call and its argument", () => {
  refused(() => sendSignal(process.pid, process.pid, 65), "EINVAL", "tgkill", `thread ${process.pid}, signal 65`);
  refused(() => ignoreSignal(9), "EINVAL", "signal", "9, SIG_IGN");
  refused(() => ignoreSignal(65), "EINVAL", "signal", "65, SIG_IGN");
  assert.throws(() => blockSignals(0), RangeError);
  assert.throws(() => unblockSignals(65), RangeError);
});
