/**
 * The doorbells of a virtio function (virtio 1.2, 4.1.4.4): where a driver's ring wakes the I/O thread without an exit. They
 * hang where the registers' BAR is, so whichever vCPU moves the BAR moves them too.
 */

import { NOTIFY_MULTIPLIER } from "@lodge/devices/vcpu-side";
import type { Vm } from "@lodge/kvm";
import { type Doorbell, type Hypervisor, KvmError, type Notifier, type NotifierHandle, SharedLock } from "@lodge/kvm";

/** What can be posted to the vCPUs' threads. */
export interface DoorbellsHandle {
  readonly shared: SharedArrayBuffer;
  /** Of each queue. */
  readonly notifiers: readonly NotifierHandle[];
}

/** Shared: the lock's word, the first doorbell's address as a float (0 for nowhere), a word for each queue. */
const ADDRESS_AT = 8;
const HUNG_AT = 16;

export class Doorbells implements Disposable {
  readonly handle: DoorbellsHandle;
  /** Of each queue. */
  readonly notifiers: readonly Notifier[];
  readonly #vm: Vm;
  readonly #lock: SharedLock;
  readonly #address: Float64Array;
  /** 1 for a queue whose doorbell hangs: the hypervisor may have no room for it, and its rings are exits then. */
  readonly #hung: Int32Array;

  /** New ones for a function of so many queues, or by a handle those that another thread made. */
  constructor(hypervisor: Hypervisor, vm: Vm, from: DoorbellsHandle | number) {
    this.#vm = vm;
    if (typeof from === "number") {
      this.notifiers = Array.from({ length: from }, () => hypervisor.createNotifier());
      const shared = new SharedArrayBuffer(HUNG_AT + 4 * from);
      this.handle = { shared, notifiers: this.notifiers.map(({ handle }) => handle) };
    } else {
      this.notifiers = from.notifiers.map((handle) => hypervisor.attachNotifier(handle));
      this.handle = from;
    }
    const { shared } = this.handle;
    this.#lock = new SharedLock(new Int32Array(shared, 0, 1), 0);
    this.#address = new Float64Array(shared, ADDRESS_AT, 1);
    this.#hung = new Int32Array(shared, HUNG_AT);
  }

  /** A ring that came by an exit. */
  ring(queue: number): void {
    this.notifiers[queue]?.signal();
  }

  /** Hangs them where `whereNow` says that the first one is; undefined: nowhere. Asked under the lock, so the last move wins. */
  follow(whereNow: () => number | undefined): void {
    this.#lock.acquire();
    try {
      const address = whereNow() ?? 0;
      const before = this.#address[0]!;
      if (address === before) return;
      this.#address[0] = address;
      for (const [queue, notifier] of this.notifiers.entries()) {
        if (this.#hung[queue]) this.#vm.deassignIoeventfd(notifier, doorbell(before, queue));
        this.#hung[queue] = address !== 0 && this.#hang(notifier, doorbell(address, queue)) ? 1 : 0;
      }
    } finally {
      this.#lock.release();
    }
  }

  #hang(notifier: Notifier, where: Doorbell): boolean {
    try {
      this.#vm.assignIoeventfd(notifier, where);
      return true;
    } catch (error) {
      // Too many, or a guest that puts two BARs in one place. It goes on with exits.
      if (error instanceof KvmError) return false;
      throw error;
    }
  }

  [Symbol.dispose](): void {
    for (const notifier of this.notifiers) notifier.close();
  }
}

/** Any width: drivers write 16 bits, and /dev/kvm is quicker when it needs not look. */
function doorbell(first: number, queue: number): Doorbell {
  return { bus: "mmio", address: first + queue * NOTIFY_MULTIPLIER, length: 0 };
}
