/**
 * Signals of one thread: block, consume, send. No handler is JavaScript: a function called in the middle of another is never
 * safe there.
 */

import { check, Errno, SystemError } from "./errors.ts";
import { bind, lastErrno } from "./libc.ts";

/** The C library keeps the first two real-time signals; 34 is its SIGRTMIN, and ours go up from there. */
export const SIGRTMIN = 34;

/** glibc's sigset_t is 128 bytes, the kernel's 8; signal n is bit n - 1. */
export const SIGSET_BYTES = 128;

/** asm-generic/signal-defs.h. */
export const SIG_BLOCK = 0;
export const SIG_UNBLOCK = 1;

/** asm/signal.h. */
export const SA_RESTART = 0x1000_0000;

/** The C library's struct sigaction: offsets and size. */
export const Sigaction = { HANDLER: 0, FLAGS: 136, SIZE: 152 } as const;

const c = {
  pthreadSigmask: bind<(how: number, set: ArrayBufferView | null, old: ArrayBufferView | null) => number>(
    "int pthread_sigmask(int, const void *, void *)",
  ),
  sigtimedwait: bind<(set: ArrayBufferView, info: null, timeout: ArrayBufferView) => number>(
    "int sigtimedwait(const void *, void *, const void *)",
  ),
  tgkill: bind<(tgid: number, tid: number, signal: number) => number>("int tgkill(int, int, int)"),
  sigaction: bind<(signal: number, action: ArrayBufferView, old: null) => number>(
    "int sigaction(int, const void *, void *)",
  ),
  dlsym: bind<(library: number, name: string) => number>("intptr_t dlsym(intptr_t, const char *)"),
  gettid: bind<() => number>("int gettid()"),
};

/** dlfcn.h. */
const RTLD_DEFAULT = 0;

const IMMEDIATELY = new BigInt64Array(2);

/** The set with these signals in it, in the C library's layout. */
export function signalSet(...signals: number[]): BigUint64Array {
  const set = new BigUint64Array(SIGSET_BYTES / 8);
  for (const signal of signals) {
    if (!(signal >= 1 && signal <= 64)) throw new RangeError(`signal ${signal}: a signal is 1 to 64`);
    set[0]! |= 1n << BigInt(signal - 1);
  }
  return set;
}

/** Adds signals to those this thread blocks: they stay pending until consumed. */
export function blockSignals(...signals: number[]): void {
  changeMask(SIG_BLOCK, signals);
}

/** Takes signals out of those this thread blocks. */
export function unblockSignals(...signals: number[]): void {
  changeMask(SIG_UNBLOCK, signals);
}

/** The signals this thread blocks, as the kernel's 64-bit set. */
export function blockedSignals(): bigint {
  const old = new BigUint64Array(SIGSET_BYTES / 8);
  c.pthreadSigmask(SIG_BLOCK, null, old);
  return old[0]!;
}

/** Takes one pending signal out of `set` (of {@link signalSet}) without waiting; 0 when none is pending. */
export function consumeSignal(set: BigUint64Array): number {
  for (;;) {
    const signal = c.sigtimedwait(set, null, IMMEDIATELY);
    if (signal > 0) return signal;
    const errno = lastErrno();
    if (errno === Errno.EAGAIN) return 0;
    if (errno !== Errno.EINTR) throw new SystemError(errno, "sigtimedwait", `set 0x${set[0]!.toString(16)}`);
  }
}

/**
 * From now on a signal does nothing in this process but end the system call that a thread waits in, with EINTR where the
 * kernel does not begin it anew. The handler is abs(3): a function of one int that touches nothing.
 */
export function interruptOnly(signal: number): void {
  const action = new DataView(new ArrayBuffer(Sigaction.SIZE));
  action.setBigUint64(Sigaction.HANDLER, BigInt(c.dlsym(RTLD_DEFAULT, "abs")), true);
  action.setUint32(Sigaction.FLAGS, SA_RESTART, true);
  check(c.sigaction(signal, action, null), "sigaction", signal);
}

/** Sends a signal to one thread of a process. Returns false when that thread is gone. */
export function sendSignal(pid: number, tid: number, signal: number): boolean {
  if (c.tgkill(pid, tid, signal) === 0) return true;
  const errno = lastErrno();
  if (errno === Errno.ESRCH) return false;
  throw new SystemError(errno, "tgkill", `thread ${tid}, signal ${signal}`);
}

/** The kernel's number of this thread. */
export function gettid(): number {
  tid ??= c.gettid();
  return tid;
}

/** This module is loaded anew for each thread. */
let tid: number | undefined;

function changeMask(how: number, signals: number[]): void {
  // pthread functions return the error instead of setting errno.
  const errno = c.pthreadSigmask(how, signalSet(...signals), null);
  if (errno !== 0) throw new SystemError(errno, "pthread_sigmask", signals.join(" "));
}
