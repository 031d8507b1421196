/** A notifier as an eventfd, which the kernel's KVM signals and waits for itself. */

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

  /** Without a handle: a new one, closed here. With one: another thread's, which closes it. */
  constructor(handle?: LinuxNotifierHandle) {
    this.#owner = handle === undefined;
    this.#eventfd = new Eventfd(handle?.fd);
    this.handle = handle ?? { kind: "kvm", fd: this.#eventfd.fd };
  }

  signal(): void {
    this.#eventfd.signal();
  }

  take(): number {
    return this.#eventfd.take();
  }

  watch(callback: (count: number) => void): Disposable {
    return this.#eventfd.watch(callback);
  }

  close(): void {
    if (this.#owner) this.#eventfd.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** The descriptor behind a notifier; one of another implementation is refused. */
export function notifierFd(notifier: Notifier): number {
  if (notifier instanceof LinuxNotifier) return notifier.handle.fd;
  throw new KvmError(
    "KVM_INVALID",
    "this notifier belongs to another hypervisor; make it with this one's createNotifier",
  );
}
