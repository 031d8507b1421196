/**
 * Persistent memory (virtio 1.2, 5.19): a file among the guest's addresses, which it reads and writes without asking anybody,
 * and a queue in which it asks for what it wrote to last.
 */

import { DeviceError } from "../../errors.ts";
import { address, type SavedState, stateRecord } from "../../state.ts";
import { type DeviceMemory, DeviceType, VirtioDevice } from "../device.ts";
import type { Chain, Virtqueue } from "../queue/index.ts";

/** struct virtio_pmem_config (5.19.4): u64 each. */
const Config = { START: 0, SIZE: 8, LENGTH: 16 } as const;
/** VIRTIO_PMEM_REQ_TYPE_FLUSH, and what is said of it (5.19.6). */
const FLUSH = 0;
const Answer = { DONE: 0, FAILED: 1 } as const;

const REQUEST_LENGTH = 4;
const ANSWER_LENGTH = 4;
const QUEUE_SIZE = 64;

export interface PmemOptions {
  readonly memory: DeviceMemory;
  /** What was written to the memory until now lasts when this resolves. */
  readonly flush: () => Promise<void>;
}

const record = stateRecord("virtio-pmem", 1, { sizeBytes: address });

export class PmemDevice extends VirtioDevice {
  readonly type = DeviceType.PMEM;
  readonly features = 0n;
  readonly queueSizes = [QUEUE_SIZE];
  readonly config = new Uint8Array(Config.LENGTH);
  override readonly memory: DeviceMemory;
  readonly #flush: () => Promise<void>;
  /** Requests that the next flush answers; those of the flush under way are not among them. */
  #waiting: Chain[] = [];
  #flushing: Promise<void> | undefined;
  #paused = false;

  constructor({ memory, flush }: PmemOptions, saved?: SavedState) {
    super();
    this.memory = memory;
    this.#flush = flush;
    new DataView(this.config.buffer).setBigUint64(Config.SIZE, BigInt(memory.sizeBytes), true);
    if (saved === undefined) return;
    const { sizeBytes } = record.restore(saved);
    if (sizeBytes !== memory.sizeBytes) {
      const sizes = `sizeBytes is ${sizeBytes}, and ${memory.name} has ${memory.sizeBytes}`;
      throw new DeviceError("DEVICE_STATE", `the saved state of virtio-pmem is of another file: ${sizes}`);
    }
  }

  override placed(gpa: number): void {
    new DataView(this.config.buffer).setBigUint64(Config.START, BigInt(gpa), true);
  }

  override notified(number: number): void {
    const queue = this.link.queues[number];
    if (queue === undefined || this.#paused) return;
    queue.serve((chain) => this.#take(queue, chain));
    if (this.#waiting.length > 0) this.#flushing ??= this.#flushAll(queue);
  }

  #take(queue: Virtqueue, chain: Chain): void {
    const request = new DataView(new ArrayBuffer(REQUEST_LENGTH));
    if (chain.read(0, new Uint8Array(request.buffer)) < REQUEST_LENGTH || chain.writableBytes < ANSWER_LENGTH) {
      queue.break("a request without a whole type or without room for its answer");
    } else if (request.getUint32(0, true) === FLUSH) {
      this.#waiting.push(chain);
    } else {
      answer(queue, chain, Answer.FAILED);
    }
  }

  /** One flush for all that ask for one before it begins. */
  async #flushAll(queue: Virtqueue): Promise<void> {
    while (this.#waiting.length > 0) {
      const asked = this.#waiting;
      this.#waiting = [];
      const said = await this.#flush().then(
        () => Answer.DONE,
        () => Answer.FAILED,
      );
      for (const chain of asked) answer(queue, chain, said);
      queue.publish();
    }
    this.#flushing = undefined;
    // A ring that was full of requests may have more now, of which no doorbell told.
    this.notified(0);
  }

  override async stop(): Promise<void> {
    await this.#flushing;
  }

  override stopQueue(): void | Promise<void> {
    return this.#flushing;
  }

  override pause(): void | Promise<void> {
    this.#paused = true;
    return this.#flushing;
  }

  override resume(): void {
    this.#paused = false;
  }

  override save(): SavedState {
    return record.save({ sizeBytes: this.memory.sizeBytes });
  }
}

function answer(queue: Virtqueue, chain: Chain, what: number): void {
  const bytes = new Uint8Array(ANSWER_LENGTH);
  bytes[0] = what;
  chain.write(0, bytes);
  queue.push(chain, ANSWER_LENGTH);
}
