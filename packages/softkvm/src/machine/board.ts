/**
 * What all threads of a process share about vCPUs and notifiers: one small array of words. A vCPU looks at its word when
 * its budget runs out and sleeps on it when it is halted; a notifier is a counter. Whoever has the board can wake or
 * signal any of them, with nothing but atomic operations.
 */

import { KvmError } from "@lodge/kvm";

/** What a vCPU shall look at: bits of its attention word. */
export const Attention = {
  /** Return `INTR` to the monitor. */
  KICK: 1,
  /** Its interrupt controller has something. */
  INTERRUPT: 2,
  /** Memory slots changed: forget all translations. */
  MEMORY: 4,
  /** The dirty log was cleared, or a page holds code now: forget where writes may go. */
  WRITES: 8,
  /** A notifier that raises an interrupt was signalled. */
  IRQFD: 16,
  /** Somebody wrote to pages that hold code: see `CodeWrites`. */
  CODE: 32,
} as const;

const SLOTS = 1024;
const WORDS = 8;

/** Words of a vCPU's slot. */
const Vcpu = { attention: 0, state: 1, acknowledged: 2, waiters: 3, sleeping: 4 } as const;
/** Words of a notifier's slot. `owner` is the vCPU slot to wake, plus 1. */
const NotifierWord = { count: 0, owner: 1, used: 2 } as const;

/** `state` of a vCPU's slot. */
const VcpuState = { FREE: 0, OUTSIDE: 1, IN_GUEST: 2 } as const;

const NOTIFIERS = SLOTS * WORDS;

export class Board {
  readonly buffer: SharedArrayBuffer;
  readonly #words: Int32Array;

  constructor(buffer = new SharedArrayBuffer((NOTIFIERS + SLOTS * WORDS) * 4)) {
    this.buffer = buffer;
    this.#words = new Int32Array(buffer);
  }

  // vCPUs.

  /** Takes a slot for a vCPU. */
  openVcpu(): number {
    for (let slot = 0; slot < SLOTS; slot++) {
      const at = vcpuAt(slot);
      if (Atomics.compareExchange(this.#words, at + Vcpu.state, VcpuState.FREE, VcpuState.OUTSIDE) !== VcpuState.FREE) {
        continue;
      }
      Atomics.store(this.#words, at + Vcpu.attention, 0);
      Atomics.store(this.#words, at + Vcpu.sleeping, 0);
      return slot;
    }
    throw new KvmError("KVM_INVALID", `this process has ${SLOTS} vCPUs, and no more is possible`);
  }

  closeVcpu(slot: number): void {
    Atomics.store(this.#words, vcpuAt(slot) + Vcpu.state, VcpuState.FREE);
    this.#acknowledge(slot);
  }

  /** Asks a vCPU to look at something, and wakes it if it sleeps. */
  ask(slot: number, bits: number): void {
    const at = vcpuAt(slot);
    Atomics.or(this.#words, at + Vcpu.attention, bits);
    // It says that it sleeps before it looks at what it is asked for last. Mostly it runs, and asks itself as often as others do.
    if (Atomics.load(this.#words, at + Vcpu.sleeping) !== 0) Atomics.notify(this.#words, at + Vcpu.attention);
  }

  /** Asks, and waits until the vCPU has taken note or is out of the guest, where it looks before it enters again. */
  askAndWait(slot: number, bits: number): void {
    const hasLooked = this.askFor(slot, bits);
    const at = vcpuAt(slot) + Vcpu.acknowledged;
    // Before the count is read: whoever counts on and sees nobody wait has counted on before that.
    Atomics.add(this.#words, vcpuAt(slot) + Vcpu.waiters, 1);
    for (;;) {
      const count = Atomics.load(this.#words, at);
      if (hasLooked()) break;
      Atomics.wait(this.#words, at, count);
    }
    Atomics.sub(this.#words, vcpuAt(slot) + Vcpu.waiters, 1);
  }

  /** Asks, and returns what says whether the vCPU has taken note, or will before it runs the guest again. */
  askFor(slot: number, bits: number): () => boolean {
    const at = vcpuAt(slot);
    const before = Atomics.load(this.#words, at + Vcpu.acknowledged);
    this.ask(slot, bits);
    return () =>
      Atomics.load(this.#words, at + Vcpu.state) !== VcpuState.IN_GUEST ||
      // What it looked at meanwhile may be what was asked for before: then these bits are there still.
      (Atomics.load(this.#words, at + Vcpu.acknowledged) !== before &&
        (Atomics.load(this.#words, at + Vcpu.attention) & bits) === 0);
  }

  /** Takes what the vCPU shall look at. Whoever waits for it in {@link askAndWait} goes on after {@link looked}. */
  take(slot: number): number {
    const at = vcpuAt(slot) + Vcpu.attention;
    return Atomics.load(this.#words, at) === 0 ? 0 : Atomics.exchange(this.#words, at, 0);
  }

  /** As of now or a moment ago; {@link take} knows. Asked for at every turn of the run loop, it is no atomic load. */
  isAsked(slot: number): boolean {
    return this.#words[vcpuAt(slot) + Vcpu.attention] !== 0;
  }

  /** Whether the monitor waits for the vCPU to stop. It may come at any time, hence the atomic load. */
  isKicked(slot: number): boolean {
    return (Atomics.load(this.#words, vcpuAt(slot) + Vcpu.attention) & Attention.KICK) !== 0;
  }

  looked(slot: number): void {
    this.#acknowledge(slot);
  }

  enterGuest(slot: number): void {
    Atomics.store(this.#words, vcpuAt(slot) + Vcpu.state, VcpuState.IN_GUEST);
  }
  leaveGuest(slot: number): void {
    Atomics.store(this.#words, vcpuAt(slot) + Vcpu.state, VcpuState.OUTSIDE);
    // Every exit comes here, and mostly nobody waits. Who begins to wait sees that it is outside, or, when it has entered again, is looked at.
    if (Atomics.load(this.#words, vcpuAt(slot) + Vcpu.waiters) > 0) this.#acknowledge(slot);
  }

  /** Sleeps until asked for something, or the time is over. */
  sleep(slot: number, timeoutMs: number): void {
    const at = vcpuAt(slot);
    Atomics.store(this.#words, at + Vcpu.sleeping, 1);
    Atomics.wait(this.#words, at + Vcpu.attention, 0, timeoutMs);
    Atomics.store(this.#words, at + Vcpu.sleeping, 0);
  }

  #acknowledge(slot: number): void {
    const at = vcpuAt(slot) + Vcpu.acknowledged;
    Atomics.add(this.#words, at, 1);
    if (Atomics.load(this.#words, vcpuAt(slot) + Vcpu.waiters) > 0) Atomics.notify(this.#words, at);
  }

  // Notifiers.

  openNotifier(): number {
    for (let slot = 0; slot < SLOTS; slot++) {
      const at = notifierAt(slot);
      if (Atomics.compareExchange(this.#words, at + NotifierWord.used, 0, 1) !== 0) continue;
      Atomics.store(this.#words, at + NotifierWord.owner, 0);
      Atomics.store(this.#words, at + NotifierWord.count, 0);
      return slot;
    }
    throw new KvmError("KVM_INVALID", `this process has ${SLOTS} notifiers, and no more is possible`);
  }

  closeNotifier(slot: number): void {
    Atomics.store(this.#words, notifierAt(slot) + NotifierWord.used, 0);
  }

  /** Adds 1, and wakes the vCPU that injects the interrupt which hangs on it. */
  signal(slot: number): void {
    const at = notifierAt(slot);
    // Whoever takes the counter leaves it at 0: above that somebody was woken already.
    if (Atomics.add(this.#words, at + NotifierWord.count, 1) === 0)
      Atomics.notify(this.#words, at + NotifierWord.count);
    const owner = Atomics.load(this.#words, at + NotifierWord.owner);
    if (owner > 0) this.ask(owner - 1, Attention.IRQFD);
  }

  takeCount(slot: number): number {
    return Atomics.exchange(this.#words, notifierAt(slot) + NotifierWord.count, 0);
  }

  /** Which vCPU injects the interrupt of a notifier; -1 for none. */
  setOwner(slot: number, vcpu: number): void {
    Atomics.store(this.#words, notifierAt(slot) + NotifierWord.owner, vcpu + 1);
  }

  /** Resolves when the counter is not 0. */
  async signalled(slot: number): Promise<void> {
    const at = notifierAt(slot) + NotifierWord.count;
    while (Atomics.load(this.#words, at) === 0) {
      const wait = Atomics.waitAsync(this.#words, at, 0);
      if (wait.async) await wait.value;
    }
  }
}

const vcpuAt = (slot: number) => slot * WORDS;
const notifierAt = (slot: number) => NOTIFIERS + slot * WORDS;
