/** The block device (virtio 1.2, 5.2): a disk behind request queues. */

import type { Disk } from "@lodge/storage";
import { DeviceError } from "../../errors.ts";
import { address, flag, type SavedState, stateRecord } from "../../state.ts";
import { DeviceType, VirtioDevice } from "../device.ts";
import { type Chain, part, type Virtqueue } from "../queue/index.ts";
import {
  BlkFeature,
  Config,
  HEADER_LENGTH,
  ID_LENGTH,
  MAX_SEGMENT_SECTORS,
  MAX_SEGMENTS,
  Request,
  RequestStatus,
  SECTOR,
  SEGMENT_LENGTH,
  SEGMENT_UNMAP,
} from "./layout.ts";

const QUEUE_SIZE = 256;

/**
 * What the disk has at hand is copied as requests are taken from the ring, and shown when that is over. So much takes longer than
 * a turn of its own: the driver has it to work on while the next is being copied.
 */
const TURN_BYTES = 128 << 10;

export interface BlkOptions {
  disk: Disk;
  /** How many queues; as many as there are vCPUs is a good number. */
  queues?: number;
  /** What the guest finds it by: up to 20 bytes of ASCII. */
  serial?: string;
  /**
   * Whether the guest is told of a cache, which it flushes and may switch off. Default true. Without one each write is
   * lasting when it ends.
   */
  cache?: boolean;
  /** What becomes of a request that the disk failed. Default: `report`. */
  errors?: ErrorPolicy;
  /** Told of each such request. */
  onError?: (failure: RequestFailure) => void;
}

export interface RequestFailure {
  readonly error: Error;
  readonly operation: "read" | "write";
  /** What becomes of it. A request of a queue that is being reset is reported instead of held. */
  readonly action: ErrorPolicy;
}

/**
 * `report`: the guest is told. `ignore`: the guest believes that it went well. `stop`: the request is held, for whoever
 * pauses the machine; it is tried again on {@link BlkDevice.resume}.
 */
export type ErrorPolicy = "report" | "ignore" | "stop";

/** A request that failed and waits to be tried again. */
interface Held {
  readonly queue: number;
  readonly type: number;
  readonly sector: number;
  readonly chain: Chain;
}

const record = stateRecord("virtio-blk", 1, { sizeBytes: address, writeback: flag });

export class BlkDevice extends VirtioDevice {
  readonly type = DeviceType.BLOCK;
  readonly features: bigint;
  readonly queueSizes: readonly number[];
  readonly config = new Uint8Array(Config.LENGTH);
  override readonly writableConfig = [Config.WRITEBACK, Config.WRITEBACK + 1] as const;
  readonly #disk: Disk;
  readonly #serial = new Uint8Array(ID_LENGTH);
  readonly #cache: boolean;
  readonly #errors: ErrorPolicy;
  readonly #onError: (failure: RequestFailure) => void;
  readonly #header = new DataView(new ArrayBuffer(HEADER_LENGTH));
  readonly #status = new Uint8Array(1);
  /** Requests in flight, by queue, and who waits for their end. */
  readonly #busy: number[];
  #idle: { queue: number | undefined; done: () => void }[] = [];
  readonly #unpublished = new Set<Virtqueue>();
  #paused = false;
  #held: Held[] = [];

  constructor(options: BlkOptions, saved?: SavedState) {
    super();
    const { disk, queues = 1, serial = "", cache = true, errors = "report", onError = () => {} } = options;
    if (!/^[ -~]{0,20}$/.test(serial)) {
      throw new DeviceError(
        "DEVICE_CONFIGURATION",
        `the serial ${JSON.stringify(serial)} is not up to 20 characters of ASCII`,
      );
    }
    if (!Number.isInteger(queues) || queues < 1 || queues > 64) {
      throw new DeviceError("DEVICE_CONFIGURATION", `${queues} queues of a disk: 1 to 64 are possible`);
    }
    this.#disk = disk;
    this.#cache = cache;
    this.#errors = errors;
    this.#onError = onError;
    new TextEncoder().encodeInto(serial, this.#serial);
    this.queueSizes = Array.from({ length: queues }, () => QUEUE_SIZE);
    this.#busy = this.queueSizes.map(() => 0);
    const writes = BlkFeature.DISCARD | BlkFeature.WRITE_ZEROES | (cache ? BlkFeature.CONFIG_WCE : 0n);
    this.features =
      BlkFeature.SEG_MAX |
      BlkFeature.BLK_SIZE |
      BlkFeature.TOPOLOGY |
      (cache ? BlkFeature.FLUSH : 0n) |
      (queues > 1 ? BlkFeature.MQ : 0n) |
      (disk.readOnly ? BlkFeature.RO : writes);
    this.#fillConfig(queues);
    if (saved === undefined) return;
    const state = record.restore(saved);
    if (state.sizeBytes !== disk.sizeBytes) {
      const sizes = `sizeBytes is ${state.sizeBytes}, and this disk has ${disk.sizeBytes}`;
      throw new DeviceError("DEVICE_STATE", `the saved state of virtio-blk is of another disk: ${sizes}`);
    }
    this.config[Config.WRITEBACK] = state.writeback ? 1 : 0;
  }

  #fillConfig(queues: number): void {
    const view = new DataView(this.config.buffer);
    this.#fillCapacity();
    // All of a queue but header and status.
    view.setUint32(Config.SEG_MAX, QUEUE_SIZE - 2, true);
    view.setUint32(Config.BLK_SIZE, SECTOR, true);
    // 4 KiB, which is what host file systems work in.
    view.setUint8(Config.PHYSICAL_BLOCK_EXP, 3);
    view.setUint8(Config.WRITEBACK, this.#cache ? 1 : 0);
    view.setUint16(Config.NUM_QUEUES, queues, true);
    view.setUint32(Config.MAX_DISCARD_SECTORS, MAX_SEGMENT_SECTORS, true);
    view.setUint32(Config.MAX_DISCARD_SEG, MAX_SEGMENTS, true);
    view.setUint32(Config.DISCARD_SECTOR_ALIGNMENT, 8, true);
    view.setUint32(Config.MAX_WRITE_ZEROES_SECTORS, MAX_SEGMENT_SECTORS, true);
    view.setUint32(Config.MAX_WRITE_ZEROES_SEG, MAX_SEGMENTS, true);
    view.setUint8(Config.WRITE_ZEROES_MAY_UNMAP, 1);
  }

  #fillCapacity(): void {
    new DataView(this.config.buffer).setBigUint64(Config.CAPACITY, BigInt(this.#disk.sizeBytes / SECTOR), true);
  }

  /** The disk has another size now, of which the driver is told (5.2.4). */
  resized(): void {
    this.#fillCapacity();
    this.link.configChanged();
  }

  override notified(number: number): void {
    const queue = this.link.queues[number];
    if (queue === undefined || this.#paused) return;
    let bytes = 0;
    queue.serve((chain) => {
      bytes += chain.readableBytes + chain.writableBytes;
      this.#begin(number, queue, chain);
      return bytes >= TURN_BYTES ? "enough" : undefined;
    });
  }

  /** Everything before the first wait happens here, in the order of the ring; what the disk has at hand ends here too. */
  #begin(number: number, queue: Virtqueue, chain: Chain): void {
    if (chain.read(0, new Uint8Array(this.#header.buffer)) < HEADER_LENGTH || chain.writableBytes === 0) {
      queue.break("a request without a whole header or without room for its status");
      return;
    }
    const type = this.#header.getUint32(0, true);
    const sector = this.#header.getUint32(8, true) + this.#header.getUint32(12, true) * 2 ** 32;
    void this.#run(queue, { queue: number, type, sector, chain });
  }

  async #run(queue: Virtqueue, request: Held): Promise<void> {
    const { queue: number, type, sector, chain } = request;
    this.#busy[number]! += 1;
    const status = await this.#perform(type, sector, chain).catch((error: Error) => this.#failed(request, error));
    if (status !== undefined) {
      this.#status[0] = status;
      const length = chain.writableBytes;
      chain.write(length - 1, this.#status);
      queue.push(chain, length);
      this.#publishSoon(queue);
    }
    this.#ended(number, queue);
  }

  /** The status of a request that the disk failed; undefined while it is held. */
  #failed(request: Held, error: Error): number | undefined {
    // A queue that is being stopped waits for its requests' end.
    const mayHold = this.link.queues[request.queue]?.usable === true;
    const action = this.#errors === "stop" && !mayHold ? "report" : this.#errors;
    if (action === "stop") this.#held.push(request);
    this.#onError({ error, operation: request.type === Request.IN ? "read" : "write", action });
    if (action === "stop") return undefined;
    return action === "ignore" ? RequestStatus.OK : RequestStatus.IOERR;
  }

  /** Requests that end together are shown together. */
  #publishSoon(queue: Virtqueue): void {
    if (this.#unpublished.has(queue)) return;
    this.#unpublished.add(queue);
    queueMicrotask(() => {
      this.#unpublished.delete(queue);
      queue.publish();
    });
  }

  async #perform(type: number, sector: number, chain: Chain): Promise<number> {
    switch (type) {
      case Request.IN: {
        const length = chain.writableBytes - 1;
        if (!this.#contains(sector, length)) return RequestStatus.IOERR;
        await this.#disk.read(sector * SECTOR, part(chain.writable, 0, length));
        return RequestStatus.OK;
      }
      case Request.OUT: {
        const length = chain.readableBytes - HEADER_LENGTH;
        if (this.#disk.readOnly || !this.#contains(sector, length)) return RequestStatus.IOERR;
        await this.#disk.write(sector * SECTOR, part(chain.readable, HEADER_LENGTH, length));
        if (this.#writeThrough) await this.#disk.flush();
        return RequestStatus.OK;
      }
      case Request.FLUSH:
        await this.#disk.flush();
        return RequestStatus.OK;
      case Request.GET_ID:
        chain.write(0, this.#serial.subarray(0, Math.min(ID_LENGTH, chain.writableBytes - 1)));
        return RequestStatus.OK;
      case Request.DISCARD:
      case Request.WRITE_ZEROES:
        return this.#clear(type, chain);
      default:
        return RequestStatus.UNSUPP;
    }
  }

  /** 5.2.6: discards and zeroes; all ranges are checked before the first is touched. */
  async #clear(type: number, chain: Chain): Promise<number> {
    if (this.#disk.readOnly) return RequestStatus.IOERR;
    const length = chain.readableBytes - HEADER_LENGTH;
    if (length === 0 || length % SEGMENT_LENGTH !== 0 || length > MAX_SEGMENTS * SEGMENT_LENGTH) {
      return RequestStatus.UNSUPP;
    }
    const segments = new DataView(new ArrayBuffer(length));
    chain.read(HEADER_LENGTH, new Uint8Array(segments.buffer));
    const ranges: { offset: number; length: number; unmap: boolean }[] = [];
    for (let at = 0; at < length; at += SEGMENT_LENGTH) {
      const sector = segments.getUint32(at, true) + segments.getUint32(at + 4, true) * 2 ** 32;
      const sectors = segments.getUint32(at + 8, true);
      const flags = segments.getUint32(at + 12, true);
      // 5.2.6.2: unknown flags are unsupported, and so is unmapping what is discarded anyway.
      if (flags & ~SEGMENT_UNMAP || (type === Request.DISCARD && flags !== 0)) return RequestStatus.UNSUPP;
      if (sectors > MAX_SEGMENT_SECTORS || !this.#contains(sector, sectors * SECTOR)) return RequestStatus.IOERR;
      ranges.push({ offset: sector * SECTOR, length: sectors * SECTOR, unmap: flags !== 0 });
    }
    for (const { offset, length: bytes, unmap } of ranges) {
      if (type === Request.DISCARD) await this.#disk.discard(offset, bytes);
      else await this.#disk.writeZeroes(offset, bytes, unmap);
    }
    if (this.#writeThrough) await this.#disk.flush();
    return RequestStatus.OK;
  }

  /** 5.2.5.2: without a way to flush there is no cache, nor when the driver turned it off. */
  get #writeThrough(): boolean {
    const { features } = this.link;
    if (features & BlkFeature.CONFIG_WCE) return this.config[Config.WRITEBACK] === 0;
    return (features & BlkFeature.FLUSH) === 0n;
  }

  #contains(sector: number, length: number): boolean {
    return length % SECTOR === 0 && sector * SECTOR + length <= this.#disk.sizeBytes;
  }

  #ended(number: number, queue: Virtqueue): void {
    this.#busy[number]! -= 1;
    // A ring that was full of requests may have more now, of which no doorbell told.
    if (queue.inFlight === queue.size - 1) this.notified(number);
    this.#idle = this.#idle.filter(({ queue: wanted, done }) => {
      const idle = this.#isIdle(wanted);
      if (idle) done();
      return !idle;
    });
  }

  #isIdle(queue?: number): boolean {
    return queue === undefined ? this.#busy.every((busy) => busy === 0) : this.#busy[queue] === 0;
  }

  /** Requests use guest memory until they end. */
  #drained(queue?: number): void | Promise<void> {
    if (this.#isIdle(queue)) return;
    return new Promise((done) => this.#idle.push({ queue, done }));
  }

  override async stop(): Promise<void> {
    this.#held = [];
    await this.#drained();
    this.config[Config.WRITEBACK] = this.#cache ? 1 : 0;
  }

  override stopQueue(queue: number): void | Promise<void> {
    this.#held = this.#held.filter((request) => request.queue !== queue);
    return this.#drained(queue);
  }

  override pause(): void | Promise<void> {
    this.#paused = true;
    return this.#drained();
  }

  override resume(): void {
    this.#paused = false;
    for (const request of this.#held.splice(0)) {
      const queue = this.link.queues[request.queue];
      if (queue !== undefined) void this.#run(queue, request);
    }
  }

  /** Not while requests are held: what they are is in no saved state. */
  override save(): SavedState {
    if (this.#held.length > 0) {
      const what = `${this.#held.length} requests that failed on the host wait to be tried again`;
      throw new DeviceError("DEVICE_STATE", `virtio-blk cannot be saved: ${what}`);
    }
    return record.save({ sizeBytes: this.#disk.sizeBytes, writeback: this.config[Config.WRITEBACK] !== 0 });
  }
}
