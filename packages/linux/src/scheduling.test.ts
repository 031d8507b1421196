import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { refused } from "../testing/refusal.ts";
import {
  getAffinity,
  Prctl,
  prctl,
  processorTimeUs,
  setAffinity,
  setThreadName,
  threadEnded,
  voluntarySwitches,
} from "./scheduling.ts";
import { gettid, interruptOnly, SIGRTMIN, sendSignal } from "./signals.ts";

/** No Linux gives out a thread number of 2^22 (PID_MAX_LIMIT) or more. */
const NO_THREAD = 2 ** 22;

test("affinity is what the kernel says, and setting it moves the thread", () => {
  const before = getAffinity(0);
  const text = readFileSync("/proc/thread-self/status", "utf8");
  const list = /^Cpus_allowed_list:\s+(.*)$/m.exec(text)![1]!;
  const expected = list.split(",").flatMap((range) => {
    const [first, last = first] = range.split("-").map(Number);
    return Array.from({ length: last! - first! + 1 }, (_, index) => first! + index);
  });
  assert.deepEqual(before, expected);

  const last = before.at(-1)!;
  setAffinity(gettid(), [last]);
  assert.deepEqual(getAffinity(0), [last]);
  // Field 39 of proc(5) stat is the processor; the name in field 2 may hold blanks, so count from its parenthesis.
  const stat = readFileSync("/proc/thread-self/stat", "utf8");
  assert.equal(Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[36]), last);
  setAffinity(0, before);
  assert.deepEqual(getAffinity(gettid()), before);
});

test("a thread has ended when it was joined, even if the kernel still knows it", async () => {
  for (let round = 0; round < 5; round++) {
    const worker = new Worker(new URL("../testing/interrupted.ts", import.meta.url));
    const [tid] = await once(worker, "message");
    assert.equal(threadEnded(tid), false);
    interruptOnly(SIGRTMIN + 5);
    // It may not wait yet when the first one comes.
    const over = once(worker, "exit");
    let ended = false;
    void over.then(() => {
      ended = true;
    });
    while (!ended) {
      sendSignal(process.pid, tid, SIGRTMIN + 5);
      await setImmediate();
    }
    assert.equal(threadEnded(tid), true);
  }
  assert.equal(threadEnded(gettid()), false);
  assert.equal(threadEnded(NO_THREAD), true);
});

test("a wait is counted as the kernel counts it", () => {
  const told = () => {
    const status = readFileSync("/proc/thread-self/status", "utf8");
    return Number(/^voluntary_ctxt_switches:\s+(\d+)$/m.exec(status)![1]);
  };
  const before = voluntarySwitches();
  assert.equal(Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1), "timed-out");
  const first = told();
  const counted = voluntarySwitches();
  assert.ok(counted > before);
  assert.ok(counted >= first && counted <= told(), `${counted}, and the kernel says ${first}`);
});

test("a thread's processor time grows while it works, as Node's own does, and not while it waits", () => {
  const used = () => {
    const { user, system } = process.threadCpuUsage();
    return user + system;
  };
  const before = [used(), processorTimeUs(gettid()), used()];
  let now = used();
  while (now < before[0]! + 20_000) now = used();
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100);
  const after = [used(), processorTimeUs(gettid()), used()];
  for (const [first, time, last] of [before, after]) {
    // Node's two parts are cut to whole microseconds.
    assert.ok(time! >= first! && time! <= last! + 2, `${first} ${time} ${last}`);
  }
  refused(() => processorTimeUs(NO_THREAD), "EINVAL", "clock_gettime", `of thread ${NO_THREAD}`);
});

test("a thread's name is its comm, cut at 15 bytes", () => {
  const comm = `/proc/self/task/${gettid()}/comm`;
  const before = readFileSync(comm, "utf8").trimEnd();
  setThreadName("vcpu 0");
  assert.equal(readFileSync(comm, "utf8"), "vcpu 0\n");
  setThreadName("a name of twenty-one.");
  assert.equal(readFileSync(comm, "utf8"), "a name of twent\n");
  setThreadName(before);
});

test("prctl sets and gets", () => {
  assert.equal(prctl(Prctl.GET_NO_NEW_PRIVS), Number(/NoNewPrivs:\s+(\d)/.exec(statusText())![1]));
  // It cannot be taken back, but this process starts nothing that needs it.
  assert.equal(prctl(Prctl.SET_NO_NEW_PRIVS, 1), 0);
  assert.equal(prctl(Prctl.GET_NO_NEW_PRIVS), 1);
  assert.match(statusText(), /NoNewPrivs:\s+1/);
});

function statusText(): string {
  return readFileSync("/proc/thread-self/status", "utf8");
}

test("each refusal names its call and its argument", () => {
  refused(() => prctl(0x7fff_ffff), "EINVAL", "prctl", "option 2147483647");
  refused(() => prctl(Prctl.SET_NO_NEW_PRIVS, 2), "EINVAL", "prctl", "option 38");
  refused(() => setAffinity(0, []), "EINVAL", "sched_setaffinity", "thread 0, processors ");
  const [first] = getAffinity(0);
  refused(
    () => setAffinity(NO_THREAD, [first!]),
    "ESRCH",
    "sched_setaffinity",
    `thread ${NO_THREAD}, processors ${first}`,
  );
  refused(() => getAffinity(NO_THREAD), "ESRCH", "sched_getaffinity", `thread ${NO_THREAD}`);
  for (const wrong of [-1, 1024, 0.5]) {
    assert.throws(() => setAffinity(0, [wrong]), { name: "RangeError", message: `processor ${wrong}: 0 to 1023` });
  }
});
