/** The entropy device (virtio 1.2, 5.4): one queue of buffers to fill with random bytes. */

import { fillRandom } from "@lodge/linux";
import { type SavedState, stateRecord } from "../../state.ts";
import { DeviceType, VirtioDevice } from "../device.ts";

/** Fills a piece of memory of any length with random bytes. */
export type EntropySource = (target: Uint8Array) => void;

/** What one buffer gets at most: a guest that wants gigabytes at once gets them in turns (5.4.6.1). */
const MOST_BYTES = 65536;

const record = stateRecord("virtio-rng", 1, {});

export class RngDevice extends VirtioDevice {
  readonly type = DeviceType.ENTROPY;
  readonly features = 0n;
  readonly queueSizes = [64];
  readonly config = new Uint8Array(0);
  readonly #source: EntropySource;

  constructor(source: EntropySource = fillRandom, saved?: SavedState) {
    super();
    this.#source = source;
    if (saved !== undefined) record.restore(saved);
  }

  override notified(number: number): void {
    const queue = this.link.queues[number];
    queue?.serve((chain) => {
      const length = Math.min(chain.writableBytes, MOST_BYTES);
      const random = new Uint8Array(length);
      this.#source(random);
      queue.push(chain, chain.write(0, random));
    });
  }

  override save(): SavedState {
    return record.save({});
  }
}
