import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
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
  interruptOnly,
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

test("a signal that only interrupts does nothing else, and is no concern of children", () => {
  interruptOnly(KICK);
  assert.equal(status(process.pid, "SigCgt") & bit(KICK), bit(KICK));
  // Its default action would end this process.
  assert.equal(sendSignal(process.pid, process.pid, KICK), true);
  // An ignored signal would be ignored there too.
  const child = execFileSync("cat", ["/proc/self/status"], { encoding: "utf8" });
  assert.equal(BigInt(`0x${/^SigIgn:\s+(\w+)/m.exec(child)![1]}`) & bit(KICK), 0n);
});

test("a signal ends a system call that waits", async () => {
  interruptOnly(KICK);
  const worker = new Worker(new URL("../testing/interrupted.ts", import.meta.url));
  const [tid] = await once(worker, "message");
  const answer = once(worker, "message");
  let over = false;
  void answer.then(() => {
    over = true;
  });
  // It may not wait yet when the first one comes.
  while (!over) {
    sendSignal(process.pid, tid, KICK);
    await setImmediate();
  }
  assert.deepEqual(await answer, [0]);
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
  refused(() => interruptOnly(9), "EINVAL", "sigaction", "9");
  refused(() => interruptOnly(65), "EINVAL", "sigaction", "65");
  assert.throws(() => blockSignals(0), RangeError);
  assert.throws(() => unblockSignals(65), RangeError);
});
