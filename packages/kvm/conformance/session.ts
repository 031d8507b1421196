/** What all cases on one implementation share: its threads, which are slow to start, and the watchdog. */

import type { KickHandle } from "../src/index.ts";
import type { Host } from "./case.ts";
import type { ThreadHandle } from "./port.ts";
import type { Reply, Request } from "./thread.ts";

/** One thread of the suite, asked one thing at a time. */
export class Thread {
  readonly #handle: ThreadHandle;
  readonly #waiting: PromiseWithResolvers<unknown>[] = [];
  #failure: Error | undefined;

  constructor(handle: ThreadHandle) {
    this.#handle = handle;
    handle.listen((message) => {
      const reply = message as Reply;
      const waiting = this.#waiting.shift();
      if ("value" in reply) waiting?.resolve(reply.value);
      else waiting?.reject(Object.assign(new Error(`in a thread: ${reply.error}`), { code: reply.code }));
    });
    handle.onFailure((error) => {
      this.#failure = error;
      for (const waiting of this.#waiting.splice(0)) waiting.reject(error);
    });
  }

  get failed(): boolean {
    return this.#failure !== undefined;
  }

  ask(request: Request): Promise<unknown> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    const waiting = Promise.withResolvers<unknown>();
    this.#waiting.push(waiting);
    this.#handle.post(request);
    return waiting.promise;
  }

  /** For requests that have no reply. */
  tell(request: Request): void {
    this.#handle.post(request);
  }

  end(): Promise<void> {
    return this.#handle.end();
  }
}

export class Session implements AsyncDisposable {
  readonly host: Host;
  readonly #watchdog: Thread;
  readonly #idle: Thread[] = [];
  #expired = new Int32Array(new SharedArrayBuffer(4));

  constructor(host: Host) {
    this.host = host;
    this.#watchdog = new Thread(host.startThread());
  }

  /** Begins a case: its vCPUs are kicked when it takes longer. */
  arm(limitMs: number): void {
    const flag = new SharedArrayBuffer(4);
    this.#expired = new Int32Array(flag);
    this.#watchdog.tell({ do: "arm", limitMs, expired: flag });
  }
  disarm(): void {
    this.#watchdog.tell({ do: "disarm" });
  }
  watch(kick: KickHandle): void {
    this.#watchdog.tell({ do: "watch", kick });
  }
  /** Whether the case has used up its time. */
  get expired(): boolean {
    return Atomics.load(this.#expired, 0) !== 0;
  }

  takeThread(): Thread {
    return this.#idle.pop() ?? new Thread(this.host.startThread());
  }
  giveBack(thread: Thread): void {
    if (!thread.failed) this.#idle.push(thread);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.#watchdog, ...this.#idle].map((thread) => thread.end()));
  }
}
