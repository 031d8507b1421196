/** The memory balloon (virtio 1.2, 5.5): the guest gives pages to the host, for as long as the host wants them. */

import { DeviceError } from "../../errors.ts";
import { type SavedState, stateRecord, u32 } from "../../state.ts";
import { DeviceType, VirtioDevice } from "../device.ts";
import type { Chain, Virtqueue } from "../queue/index.ts";
import { releaseToHost, replaceByZeros } from "./host-pages.ts";
import { parseStatistics, type Statistics } from "./statistics.ts";

/** 5.5.3. Free page hints are left out: reports say the same without being asked for. */
const BalloonFeature = {
  STATS_VQ: 1n << 1n,
  DEFLATE_ON_OOM: 1n << 2n,
  PAGE_POISON: 1n << 4n,
  REPORTING: 1n << 5n,
} as const;

/** struct virtio_balloon_config (5.5.4): u32 each. */
const Config = { NUM_PAGES: 0, ACTUAL: 4, POISON_VAL: 12, LENGTH: 16 } as const;

/** Pages here are of 4 KiB, whatever the guest's are. */
const PAGE = 4096;
const QUEUE_SIZE = 128;
/** Pages of one request; Linux names 256. */
const MOST_PAGES = 4096;

export interface BalloonOptions {
  /**
   * The guest does not use these bytes of its memory: the host may have the pages. Whole pages. When the guest uses them
   * again, they read as zeros or as before. Default: {@link releaseToHost}.
   */
  release?: (pages: Uint8Array) => void;
  /** The guest's balloon has another size. */
  onResize?: (bytes: number) => void;
}

type Role = "inflate" | "deflate" | "statistics" | "reporting";

const record = stateRecord("virtio-balloon", 1, { targetPages: u32, actualPages: u32, poison: u32 });

export class BalloonDevice extends VirtioDevice {
  readonly type = DeviceType.BALLOON;
  readonly features =
    BalloonFeature.STATS_VQ | BalloonFeature.DEFLATE_ON_OOM | BalloonFeature.PAGE_POISON | BalloonFeature.REPORTING;
  readonly queueSizes = [QUEUE_SIZE, QUEUE_SIZE, QUEUE_SIZE, QUEUE_SIZE];
  readonly config = new Uint8Array(Config.LENGTH);
  override readonly writableConfig = [Config.ACTUAL, Config.LENGTH] as const;
  readonly #config = new DataView(this.config.buffer);
  readonly #giveBack: (pages: Uint8Array) => void;
  readonly #onResize: (bytes: number) => void;
  /** Who waits for the next statistics. */
  #asking: ((statistics: Statistics) => void)[] = [];
  #paused = false;

  constructor({ release = releaseToHost, onResize = () => {} }: BalloonOptions = {}, saved?: SavedState) {
    super();
    this.#giveBack = release;
    this.#onResize = onResize;
    if (saved === undefined) return;
    const state = record.restore(saved);
    this.#config.setUint32(Config.NUM_PAGES, state.targetPages, true);
    this.#config.setUint32(Config.ACTUAL, state.actualPages, true);
    this.#config.setUint32(Config.POISON_VAL, state.poison, true);
  }

  /** How much of its memory the guest shall give away. It does so when it can. */
  setTarget(bytes: number): void {
    const pages = Math.floor(bytes / PAGE);
    if (!Number.isInteger(pages) || pages < 0 || pages > 0xffffffff) {
      throw new DeviceError("DEVICE_CONFIGURATION", `a balloon of ${bytes} bytes`);
    }
    this.#config.setUint32(Config.NUM_PAGES, pages, true);
    this.link.configChanged();
  }

  /** How much it has given away, as it says. */
  get actualBytes(): number {
    return this.#config.getUint32(Config.ACTUAL, true) * PAGE;
  }

  /** Asks the guest's kernel how its memory is; rejects when there is no driver that tells. */
  statistics(): Promise<Statistics> {
    const queue = this.#queueOf("statistics");
    if (queue === undefined) {
      return Promise.reject(new DeviceError("DEVICE_CONFIGURATION", "the guest's balloon driver has no statistics"));
    }
    return new Promise((resolve) => {
      this.#asking.push(resolve);
      if (this.#asking.length === 1) this.#ask(queue);
    });
  }

  /** The driver leaves one buffer with the last statistics; giving it back asks for new ones (5.5.6.3). */
  #ask(queue: Virtqueue): void {
    if (this.#paused) return;
    const chain = queue.pop();
    queue.setNotifications(true);
    if (chain === undefined) return;
    queue.push(chain, 0);
    queue.publish();
  }

  /** Queues are numbered without those that the driver has no use for (5.5.2, as Linux numbers them). */
  #roles(): Role[] {
    const { features } = this.link;
    const roles: Role[] = ["inflate", "deflate"];
    if (features & BalloonFeature.STATS_VQ) roles.push("statistics");
    if (features & BalloonFeature.REPORTING) roles.push("reporting");
    return roles;
  }

  #queueOf(role: Role): Virtqueue | undefined {
    return this.link.queues[this.#roles().indexOf(role)];
  }

  override notified(number: number): void {
    const queue = this.link.queues[number];
    if (queue === undefined || this.#paused) return;
    switch (this.#roles()[number]) {
      case "inflate":
        queue.serve((chain) => this.#inflate(queue, chain));
        break;
      // The pages come back by being used.
      case "deflate":
        queue.serve((chain) => queue.push(chain, 0));
        break;
      case "statistics":
        this.#takeStatistics(queue);
        break;
      case "reporting":
        queue.serve((chain) => this.#report(queue, chain));
        break;
      case undefined:
        break;
    }
  }

  /** u32 page numbers; neighbours are given back together. */
  #inflate(queue: Virtqueue, chain: Chain): void {
    const list = new DataView(new ArrayBuffer(Math.min(chain.readableBytes & ~3, MOST_PAGES * 4)));
    chain.read(0, new Uint8Array(list.buffer));
    let [first, count] = [0, 0];
    for (let at = 0; at < list.byteLength; at += 4) {
      const page = list.getUint32(at, true);
      if (count > 0 && page === first + count) {
        count += 1;
        continue;
      }
      this.#release(first, count);
      [first, count] = [page, 1];
    }
    this.#release(first, count);
    queue.push(chain, 0);
  }

  #release(page: number, count: number): void {
    if (count === 0) return;
    const pages = this.link.ram.slice(page * PAGE, count * PAGE);
    if (pages !== undefined) this.#releaseAt(page * PAGE, pages);
  }

  #releaseAt(gpa: number, pages: Uint8Array): void {
    const { ram } = this.link;
    this.#giveBack(pages);
    for (const { gpa: start, length } of ram.mappedIn?.(gpa, pages.length) ?? []) {
      replaceByZeros(pages.subarray(start - gpa, start - gpa + length));
    }
    ram.written(gpa, pages.length);
  }

  /** Free pages as the chain's own pieces (5.5.6.7). Poisoned ones must be as the guest left them. */
  #report(queue: Virtqueue, chain: Chain): void {
    const keep =
      this.link.features & BalloonFeature.PAGE_POISON && this.#config.getUint32(Config.POISON_VAL, true) !== 0;
    for (const [index, piece] of (keep ? [] : chain.writable).entries()) {
      const gpa = chain.writableAddress(index);
      if (gpa % PAGE === 0 && piece.length % PAGE === 0 && piece.length > 0) this.#releaseAt(gpa, piece);
    }
    queue.push(chain, 0);
  }

  /** The buffer stays in the ring until the next are wanted. The driver shall ring for the one behind it. */
  #takeStatistics(queue: Virtqueue): void {
    const chain = queue.pop();
    queue.setNotifications(true);
    if (chain === undefined) return;
    const statistics = parseStatistics(chain);
    queue.unpop(chain);
    for (const resolve of this.#asking.splice(0)) resolve(statistics);
  }

  override configWritten(): void {
    this.#onResize(this.actualBytes);
  }

  override stop(): void {
    this.#config.setUint32(Config.ACTUAL, 0, true);
    this.#config.setUint32(Config.POISON_VAL, 0, true);
    for (const resolve of this.#asking.splice(0)) resolve({});
  }

  override pause(): void {
    this.#paused = true;
  }

  override resume(): void {
    this.#paused = false;
    const queue = this.#queueOf("statistics");
    if (this.#asking.length > 0 && queue !== undefined) this.#ask(queue);
  }

  override save(): SavedState {
    return record.save({
      targetPages: this.#config.getUint32(Config.NUM_PAGES, true),
      actualPages: this.#config.getUint32(Config.ACTUAL, true),
      poison: this.#config.getUint32(Config.POISON_VAL, true),
    });
  }
}
