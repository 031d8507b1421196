/** The file system device (virtio 1.2, 5.11): a host folder that the guest mounts by its tag, by FUSE. */

import { DeviceError } from "../../errors.ts";
import { type SavedState, stateRecord } from "../../state.ts";
import { DeviceType, VirtioDevice } from "../device.ts";
import type { Chain, Virtqueue } from "../queue/index.ts";
import { errnoOf } from "../shared-folder/refusal.ts";
import { Share } from "../shared-folder/share.ts";
import { Config } from "./layout.ts";
import { FuseRequest } from "./request.ts";
import { FuseServer } from "./server.ts";

/** The first queue is for what must not wait behind others: forgotten nodes. */
const QUEUE_SIZES = [128, 128];

export interface FsOptions {
  /** The host's folder. */
  folder: string;
  /** What the guest mounts it by: 1 to 36 bytes. */
  tag: string;
  readOnly?: boolean;
}

const record = stateRecord("virtio-fs", 1, {});

/** What the guest holds open lies in its kernel's memory by numbers of ours: a restored device knows none of them (ESTALE). */
export class FsDevice extends VirtioDevice {
  readonly type = DeviceType.FS;
  readonly features = 0n;
  readonly queueSizes = QUEUE_SIZES;
  readonly config = new Uint8Array(Config.LENGTH);
  readonly #share: Share;
  readonly #server: FuseServer;
  readonly #running = new Set<Promise<void>>();
  #paused = false;

  constructor({ folder, tag, readOnly = false }: FsOptions, saved?: SavedState) {
    super();
    const name = new TextEncoder().encode(tag);
    if (name.length === 0 || name.length > Config.TAG_BYTES || name.includes(0)) {
      throw new DeviceError("DEVICE_CONFIGURATION", `the tag ${JSON.stringify(tag)} has not 1 to 36 bytes`);
    }
    if (saved !== undefined) record.restore(saved);
    this.config.set(name);
    this.config[Config.REQUEST_QUEUES] = QUEUE_SIZES.length - 1;
    this.#share = Share.open(folder, readOnly);
    this.#server = new FuseServer(this.#share);
  }

  /** Closes the folder, when no transport has the device any more. */
  close(): void {
    this.#server.reset();
    this.#share.close();
  }

  override notified(number: number): void {
    const queue = this.link.queues[number];
    if (queue === undefined || this.#paused) return;
    queue.serve((chain) => this.#begin(number, queue, chain));
  }

  #begin(number: number, queue: Virtqueue, chain: Chain): void {
    const request = FuseRequest.from(chain);
    if (request === undefined) {
      queue.break("a FUSE request without its header");
      return;
    }
    const answered = this.#answer(request).then((length) => {
      this.#running.delete(answered);
      queue.push(chain, length);
      queue.publish();
      if (queue.inFlight === queue.size - 1) this.notified(number);
    });
    this.#running.add(answered);
  }

  /** Never rejects. */
  async #answer(request: FuseRequest): Promise<number> {
    try {
      const outcome = await this.#server.perform(request);
      return typeof outcome === "number" ? request.answer(0, undefined, outcome) : request.answer(0, outcome);
    } catch (cause) {
      return request.answer(errnoOf(cause));
    }
  }

  async #drained(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running);
  }

  override async stop(): Promise<void> {
    await this.#drained();
    this.#server.reset();
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

  override save(): SavedState {
    return record.save({});
  }
}
