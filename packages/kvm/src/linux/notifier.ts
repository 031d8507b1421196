/** A notifier as an eventfd, which the kernel's KVM signals and waits for itself. */

import { markAsUncloneable } from "node:worker_threads";
import { Eventfd } from "@lodge/linux";
import { KvmError } from "../errors.ts";
import type { Notifier, NotifierHandle } from "../hypervisor.ts";

export interface LinuxNotifierHandle extends NotifierHandle {
  readonly kind: "kvm";
  readonly fd: number;
}

export class LinuxNotifier implements Notifier {
  readonly handle: LinuxNotifierHandle;
  readonly #eventfd: Eventfd;
  readonly #owner: boolean;
  #closed = false;

  /** Without a handle: a new one, closed here. With one: another thread's, which closes it. */
  constructor(handle?: LinuxNotifierHandle) {
    this.#owner = handle === undefined;
    this.#eventfd = new Eventfd(handle?.fd);
    this.handle = handle ?? { kind: "kvm", fd: this.#eventfd.fd };
    markAsUncloneable(this);
  }

  signal(): void {
    this.#open().signal();
  }

  take(): number {
    return this.#open().take();
  }

  watch(callback: (count: number) => void): Disposable {
    return this.#open().watch(callback);
  }

  /** The descriptor that the kernel is given. */
  get fd(): number {
    return this.#open().fd;
  }

  close(): void {
    this.#closed = true;
    if (this.#owner) this.#eventfd.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** The eventfd, while there is one: its number may be another file's after that. */
  #open(): Eventfd {
    if (this.#closed) throw new KvmError("KVM_CLOSED", "this notifier is closed");
    return this.#eventfd;
  }
}

/** The descriptor behind a notifier; one of another implementation is refused. */
export function notifierFd(notifier: Notifier): number {
  if (notifier instanceof LinuxNotifier) return notifier.fd;
  throw new KvmError(
    "KVM_INVALID",
    "this notifier belongs to another hypervisor; make it with this one's createNotifier",
  );
}
