/** Where and how a thread runs: sched_setaffinity(2), prctl(2). */

import { readFileSync } from "node:fs";
import { SystemCall, trySyscall } from "./direct-syscall.ts";
import { check, SystemError } from "./errors.ts";
import { bind } from "./libc.ts";
import { addressOf } from "./memory.ts";
import { sendSignal } from "./signals.ts";

const c = {
  setAffinity: bind<(tid: number, size: number, mask: ArrayBufferView) => number>(
    "int sched_setaffinity(int, size_t, const void *)",
  ),
  getAffinity: bind<(tid: number, size: number, mask: ArrayBufferView) => number>(
    "int sched_getaffinity(int, size_t, void *)",
  ),
  prctl: bind<(option: number, a: number, b: number, c: number, d: number) => number>(
    "int prctl(int, unsigned long, unsigned long, unsigned long, unsigned long)",
  ),
  prctlName: bind<(option: number, name: string) => number>("int prctl(int, const char *)"),
};

/** CPU_SETSIZE of the C library: processors 0 to 1023. */
export const MAX_CPUS = 1024;

/** Lets a thread run on these host processors only. `tid` 0 is the caller. */
export function setAffinity(tid: number, cpus: readonly number[]): void {
  const mask = new Uint8Array(MAX_CPUS / 8);
  for (const cpu of cpus) {
    if (!(Number.isInteger(cpu) && cpu >= 0 && cpu < MAX_CPUS)) throw new RangeError(`processor ${cpu}: 0 to 1023`);
    mask[cpu >> 3]! |= 1 << (cpu & 7);
  }
  check(c.setAffinity(tid, mask.length, mask), "sched_setaffinity", `thread ${tid}, processors ${cpus.join(",")}`);
}

/** The host processors that a thread may run on. `tid` 0 is the caller. */
export function getAffinity(tid: number): number[] {
  const mask = new Uint8Array(MAX_CPUS / 8);
  check(c.getAffinity(tid, mask.length, mask), "sched_getaffinity", `thread ${tid}`);
  const cpus: number[] = [];
  for (let cpu = 0; cpu < MAX_CPUS; cpu++) if (mask[cpu >> 3]! & (1 << (cpu & 7))) cpus.push(cpu);
  return cpus;
}

/** linux/sched.h, as /proc/PID/stat shows it. */
const PF_EXITING = 4;

/**
 * Whether a thread of this process is past all that it may do: gone, or about to be. (Whoever joins a thread is woken a moment
 * before the kernel forgets it.) The number of an ended thread may be another's later, which counts as not ended.
 */
export function threadEnded(tid: number): boolean {
  if (!sendSignal(process.pid, tid, 0)) return true;
  try {
    const stat = readFileSync(`/proc/self/task/${tid}/stat`, "utf8");
    // The name in parentheses may have any character; state, parent, group, session, terminal, its group, flags follow.
    return (Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[6]) & PF_EXITING) !== 0;
  } catch {
    // It went between the two, or there is no /proc.
    return !sendSignal(process.pid, tid, 0);
  }
}

/** linux/resource.h: RUSAGE_THREAD, and struct rusage, 144 bytes with ru_nvcsw at 128. */
const RUSAGE_THREAD = 1;
const usage = new Uint32Array(new ArrayBuffer(144));
const VOLUNTARY_SWITCHES = 128 / 4;
let usageAddress = 0;

/** How often this thread has given up its processor to wait for something, modulo 2^32. That it was preempted does not count. */
export function voluntarySwitches(): number {
  usageAddress ||= addressOf(usage);
  const result = trySyscall(SystemCall.getrusage, RUSAGE_THREAD, usageAddress);
  if (result < 0) throw new SystemError(-result, "getrusage", "of this thread");
  return usage[VOLUNTARY_SWITCHES]!;
}

/** Of a thread by its number, its processor time to the nanosecond (linux/posix-timers_types.h: MAKE_THREAD_CPUCLOCK). */
const threadClock = (tid: number) => (~tid << 3) | 6;
const time = new Uint32Array(new ArrayBuffer(16));
let timeAddress = 0;

/** How long a thread of this process has been on a processor, in microseconds. */
export function processorTimeUs(tid: number): number {
  timeAddress ||= addressOf(time);
  const result = trySyscall(SystemCall.clock_gettime, threadClock(tid), timeAddress);
  if (result < 0) throw new SystemError(-result, "clock_gettime", `of thread ${tid}`);
  return (time[0]! + time[1]! * 2 ** 32) * 1e6 + time[2]! / 1000;
}

/** linux/prctl.h: PR_*. */
export const Prctl = {
  SET_PDEATHSIG: 1,
  SET_NAME: 15,
  SET_NO_NEW_PRIVS: 38,
  GET_NO_NEW_PRIVS: 39,
  SET_MEMORY_MERGE: 67,
  GET_MEMORY_MERGE: 68,
} as const;

export function prctl(option: number, a = 0, b = 0, d = 0, e = 0): number {
  return check(c.prctl(option, a, b, d, e), "prctl", `option ${option}`);
}

/** Names this thread, as ps and gdb show it; the kernel keeps 15 bytes. */
export function setThreadName(name: string): void {
  check(c.prctlName(Prctl.SET_NAME, name), "prctl", `PR_SET_NAME ${name}`);
}
