/** Descriptors that wait: eventfd(2), timerfd_create(2), epoll(7). */

import { check, Errno, SystemError } from "./errors.ts";
import { Descriptor } from "./file.ts";
import { koffi } from "./koffi.ts";
import { bind, lastErrno } from "./libc.ts";

/** linux/eventfd.h and linux/timerfd.h; the same numbers as O_CLOEXEC and O_NONBLOCK. */
export const CLOEXEC = 0o2000000;
export const NONBLOCK = 0o4000;

const c = {
  eventfd: bind<(initial: number, flags: number) => number>("int eventfd(unsigned int, int)"),
  read: bind<(fd: number, buffer: ArrayBufferView, length: number) => number>("intptr_t read(int, void *, size_t)"),
  write: bind<(fd: number, buffer: ArrayBufferView, length: number) => number>(
    "intptr_t write(int, const void *, size_t)",
  ),
  timerfdCreate: bind<(clock: number, flags: number) => number>("int timerfd_create(int, int)"),
  timerfdSettime: bind<(fd: number, flags: number, value: ArrayBufferView, old: null) => number>(
    "int timerfd_settime(int, int, const void *, void *)",
  ),
  timerfdGettime: bind<(fd: number, value: ArrayBufferView) => number>("int timerfd_gettime(int, void *)"),
  epollCreate: bind<(flags: number) => number>("int epoll_create1(int)"),
  epollCtl: bind<(epfd: number, operation: number, fd: number, event: ArrayBufferView | null) => number>(
    "int epoll_ctl(int, int, int, void *)",
  ),
  epollWait: bind<(epfd: number, events: ArrayBufferView, count: number, timeoutMs: number) => number>(
    "int epoll_wait(int, void *, int, int)",
  ),
};

/** A kernel counter as a descriptor: what bumps it wakes what waits for it, across threads and into KVM. */
export class Eventfd extends Descriptor {
  #watch: Disposable | undefined;
  readonly #value = new BigUint64Array(1);

  /** Makes a new counter at 0, or takes over `fd`, which may come from another thread of this process. */
  constructor(fd: number = check(c.eventfd(0, CLOEXEC | NONBLOCK), "eventfd", "new")) {
    super(fd);
  }

  /** Adds 1. */
  signal(): void {
    this.#value[0] = 1n;
    check(c.write(this.fd, this.#value, 8), "write", `eventfd ${this.fd}`);
  }

  /** What was added since the last take; the counter is then 0. Never blocks. */
  take(): number {
    return readCounter(this.fd, this.#value, "eventfd");
  }

  /** Calls back on this thread's event loop when the counter is above 0, after taking it. */
  watch(callback: (count: number) => void): Disposable {
    if (this.#watch !== undefined) throw new Error(`eventfd ${this.fd} is already watched`);
    const poll = watchReadable(this.fd, () => {
      const count = this.take();
      if (count > 0) callback(count);
    });
    this.#watch = {
      [Symbol.dispose]: () => {
        poll[Symbol.dispose]();
        this.#watch = undefined;
      },
    };
    return this.#watch;
  }

  override close(): void {
    this.#watch?.[Symbol.dispose]();
    super.close();
  }
}

/** linux/time.h: CLOCK_*. */
export const Clock = { REALTIME: 0, MONOTONIC: 1, BOOTTIME: 7 } as const;

/** A timer as a descriptor. Times are nanoseconds, exact below 2^53 (104 days). */
export class Timerfd extends Descriptor {
  /** struct itimerspec: interval seconds, interval ns, value seconds, value ns. */
  readonly #spec = new BigInt64Array(4);
  readonly #value = new BigUint64Array(1);

  constructor(clock: number = Clock.MONOTONIC) {
    super(check(c.timerfdCreate(clock, CLOEXEC | NONBLOCK), "timerfd_create", `clock ${clock}`));
  }

  /** Fires after `delayNs`, then every `intervalNs` if that is above 0. A delay of 0 disarms. */
  set(delayNs: number, intervalNs = 0): void {
    this.#spec[0] = BigInt(Math.floor(intervalNs / 1e9));
    this.#spec[1] = BigInt(intervalNs % 1e9);
    this.#spec[2] = BigInt(Math.floor(delayNs / 1e9));
    this.#spec[3] = BigInt(delayNs % 1e9);
    check(c.timerfdSettime(this.fd, 0, this.#spec, null), "timerfd_settime", `fd ${this.fd}, ${delayNs} ns`);
  }

  /** Nanoseconds until it fires next; 0 when disarmed. */
  remainingNs(): number {
    check(c.timerfdGettime(this.fd, this.#spec), "timerfd_gettime", `fd ${this.fd}`);
    return Number(this.#spec[2]! * 1_000_000_000n + this.#spec[3]!);
  }

  /** How often it fired since the last take. Never blocks. */
  take(): number {
    return readCounter(this.fd, this.#value, "timerfd");
  }
}

/** linux/eventpoll.h: EPOLL*. */
export const EpollEvent = { IN: 0x1, OUT: 0x4, ERR: 0x8, HUP: 0x10, ET: 0x80000000 } as const;

/** struct epoll_event is packed on x86-64: u32 events, u64 data. */
export const EVENT_SIZE = process.arch === "x64" ? 12 : 16;
export const EVENT_DATA = process.arch === "x64" ? 4 : 8;

export const EPOLL_CTL_ADD = 1;
export const EPOLL_CTL_DEL = 2;
export const EPOLL_CTL_MOD = 3;

/** A set of descriptors that one blocked thread waits for. */
export class Epoll extends Descriptor {
  readonly #events: DataView;
  readonly #change = new DataView(new ArrayBuffer(EVENT_SIZE));
  readonly #capacity: number;

  /** `capacity`: the most events that one wait reports. */
  constructor(capacity = 64) {
    super(check(c.epollCreate(CLOEXEC), "epoll_create1", "new"));
    this.#capacity = capacity;
    this.#events = new DataView(new ArrayBuffer(EVENT_SIZE * capacity));
  }

  /** Watches `fd` for `events`; {@link ready} then reports `fd` itself. */
  add(fd: number, events: number): void {
    this.#control(EPOLL_CTL_ADD, fd, events);
  }

  modify(fd: number, events: number): void {
    this.#control(EPOLL_CTL_MOD, fd, events);
  }

  remove(fd: number): void {
    check(c.epollCtl(this.fd, EPOLL_CTL_DEL, fd, null), "epoll_ctl", `remove fd ${fd}`);
  }

  /** Blocks this thread until something happens or the time is over (-1: never); returns how many are ready. */
  wait(timeoutMs = -1): number {
    const count = c.epollWait(this.fd, this.#events, this.#capacity, timeoutMs);
    if (count >= 0) return count;
    const errno = lastErrno();
    if (errno === Errno.EINTR) return 0;
    throw new SystemError(errno, "epoll_wait", `fd ${this.fd}`);
  }

  /** The descriptor of the `index`th ready event of the last wait. */
  ready(index: number): number {
    return this.#events.getUint32(index * EVENT_SIZE + EVENT_DATA, true);
  }

  /** What happened on it: a mask of {@link EpollEvent}. */
  readyEvents(index: number): number {
    return this.#events.getUint32(index * EVENT_SIZE, true);
  }

  #control(operation: number, fd: number, events: number): void {
    this.#change.setUint32(0, events, true);
    this.#change.setUint32(EVENT_DATA, fd, true);
    check(c.epollCtl(this.fd, operation, fd, this.#change), "epoll_ctl", `fd ${fd}`);
  }
}

/** Calls back on this thread's event loop while `fd` is readable. Disposing ends it; the descriptor stays open. */
export function watchReadable(fd: number, callback: () => void): Disposable {
  const poll = koffi.node.poll(fd, { readable: true }, () => callback());
  return { [Symbol.dispose]: () => poll.close() };
}

function readCounter(fd: number, value: BigUint64Array, kind: string): number {
  if (c.read(fd, value, 8) >= 0) return Number(value[0]);
  const errno = lastErrno();
  if (errno === Errno.EAGAIN) return 0;
  throw new SystemError(errno, "read", `${kind} ${fd}`);
}
