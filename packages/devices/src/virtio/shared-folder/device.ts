/** What devices have in common that share a folder: each request is answered when it is done, whatever came before it. */

import { VirtioDevice } from "../device.ts";
import type { Chain, Virtqueue } from "../queue/index.ts";
import { Share } from "./share.ts";

export interface SharedFolderOptions {
  /** The host's folder. */
  folder: string;
  /** What the guest mounts it by. */
  tag: string;
  readOnly?: boolean;
}

export abstract class SharedFolderDevice extends VirtioDevice {
  protected readonly share: Share;
  /** What the guest has of the folder: its files by numbers. */
  protected abstract readonly server: { reset(): void };
  /** Requests in flight, with what the protocol calls them where it does. */
  protected readonly running = new Map<Promise<void>, number | undefined>();
  #paused = false;

  constructor({ folder, readOnly = false }: SharedFolderOptions) {
    super();
    this.share = Share.open(folder, readOnly);
  }

  /** Looks at a request, and has it {@link run}; or breaks its queue. */
  protected abstract begin(number: number, queue: Virtqueue, chain: Chain): void;

  /** Gives a request back when it is answered, by so many bytes. `answer` never rejects. */
  protected run(number: number, queue: Virtqueue, chain: Chain, answer: Promise<number>, name?: number): void {
    const answered = answer.then((length) => {
      this.running.delete(answered);
      queue.push(chain, length);
      queue.publish();
      if (queue.inFlight === queue.size - 1) this.notified(number);
    });
    this.running.set(answered, name);
  }

  /** Closes the folder, when no transport has the device any more. */
  close(): void {
    this.server.reset();
    this.share.close();
  }

  override notified(number: number): void {
    const queue = this.link.queues[number];
    if (queue === undefined || this.#paused) return;
    queue.serve((chain) => this.begin(number, queue, chain));
  }

  async #drained(): Promise<void> {
    while (this.running.size > 0) await Promise.all(this.running.keys());
  }

  override async stop(): Promise<void> {
    await this.#drained();
    this.server.reset();
  }

  override stopQueue(): Promise<void> {
    return this.#drained();
  }

  override pause(): Promise<void> {
    this.#paused = true;
    return this.#drained();
  }

  override resume(): void {
    this.#paused = false;
  }
}
