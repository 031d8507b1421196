/**
 * The registers of virtio over PCI as a driver of virtio 1 finds them in the device's BAR (virtio 1.2, 4.1.4).
 */

import { Feature } from "../device.ts";
import { MAX_QUEUE_SIZE } from "../queue/index.ts";
import { DriverSide, readFields } from "./driver-side.ts";
import { Control, QueueWord, Status, Word } from "./shared.ts";

/** The structures that capabilities point to (4.1.4); cfg_type's values. */
export type VirtioRegion = "common" | "notify" | "isr" | "device";

/** struct virtio_pci_common_cfg (4.1.4.3). */
const Common = {
  DEVICE_FEATURE_SELECT: 0x00,
  DEVICE_FEATURE: 0x04,
  DRIVER_FEATURE_SELECT: 0x08,
  DRIVER_FEATURE: 0x0c,
  CONFIG_MSIX_VECTOR: 0x10,
  NUM_QUEUES: 0x12,
  DEVICE_STATUS: 0x14,
  CONFIG_GENERATION: 0x15,
  QUEUE_SELECT: 0x16,
  QUEUE_SIZE: 0x18,
  QUEUE_MSIX_VECTOR: 0x1a,
  QUEUE_ENABLE: 0x1c,
  QUEUE_NOTIFY_OFF: 0x1e,
  QUEUE_DESC: 0x20,
  QUEUE_DRIVER: 0x28,
  QUEUE_DEVICE: 0x30,
  QUEUE_NOTIFY_DATA: 0x38,
  QUEUE_RESET: 0x3a,
} as const;

/** The fields' widths by offset; the u64s are accessed as two u32 (4.1.3.1). */
const WIDTHS = new Map<number, number>([
  ...[0x00, 0x04, 0x08, 0x0c, 0x20, 0x24, 0x28, 0x2c, 0x30, 0x34].map((offset) => [offset, 4] as const),
  ...[0x10, 0x12, 0x16, 0x18, 0x1a, 0x1c, 0x1e, 0x38, 0x3a].map((offset) => [offset, 2] as const),
  ...[0x14, 0x15].map((offset) => [offset, 1] as const),
]);

/** Bytes of the common configuration. */
export const COMMON_LENGTH = 0x3c;
const COMMON_FIELDS = { widths: WIDTHS, end: COMMON_LENGTH };

/** notify_off_multiplier (4.1.4.4): each queue has a doorbell of its own, so that each can wake the I/O thread itself. */
export const NOTIFY_MULTIPLIER = 4;

/** 4.1.4.3: the u64 of a queue's areas, by the offset of their low half. */
const AREAS = new Map<number, number>([
  [Common.QUEUE_DESC, QueueWord.DESCRIPTORS],
  [Common.QUEUE_DRIVER, QueueWord.DRIVER],
  [Common.QUEUE_DEVICE, QueueWord.DEVICE],
]);

export class VirtioRegisters extends DriverSide {
  /** `size` is 1, 2 or 4 bytes. What is not there reads as 0. */
  read(region: VirtioRegion, offset: number, size: number): number {
    switch (region) {
      case "common":
        return readFields(offset, size, COMMON_FIELDS, (at) => this.#commonField(at));
      case "device":
        return this.shared.readConfig(offset, size);
      case "isr":
        return offset === 0 ? this.takeIsr() : 0;
      case "notify":
        return 0;
    }
  }

  /** What cannot be written, or not in this width or now, stays as it is. */
  write(region: VirtioRegion, offset: number, size: number, value: number): void {
    switch (region) {
      case "common":
        if (WIDTHS.get(offset) === size) this.#writeCommon(offset, value);
        break;
      case "device":
        this.writeConfig(offset, size, value);
        break;
      case "notify":
        this.notify(Math.floor(offset / NOTIFY_MULTIPLIER));
        break;
      case "isr":
        break;
    }
  }

  #commonField(offset: number): number {
    const shared = this.shared;
    switch (offset) {
      case Common.DEVICE_FEATURE_SELECT:
        return shared.get(Word.DEVICE_FEATURE_SELECT);
      case Common.DEVICE_FEATURE:
        return word(this.handle.features, shared.get(Word.DEVICE_FEATURE_SELECT));
      case Common.DRIVER_FEATURE_SELECT:
        return shared.get(Word.DRIVER_FEATURE_SELECT);
      case Common.DRIVER_FEATURE:
        return word(shared.driverFeatures, shared.get(Word.DRIVER_FEATURE_SELECT));
      case Common.CONFIG_MSIX_VECTOR:
        return shared.get(Word.CONFIG_VECTOR);
      case Common.NUM_QUEUES:
        return this.handle.queueSizes.length;
      case Common.DEVICE_STATUS:
        return shared.get(Word.STATUS);
      case Common.CONFIG_GENERATION:
        return shared.readGeneration();
      case Common.QUEUE_SELECT:
        return shared.get(Word.QUEUE_SELECT);
      default:
        return this.#queueField(offset);
    }
  }

  /** Fields of the selected queue; 0 for one that does not exist (4.1.4.3.1: its size). */
  #queueField(offset: number): number {
    const queue = this.selected();
    if (queue === undefined) return 0;
    const get = (field: number) => this.shared.get(this.shared.queueWord(queue, field));
    switch (offset) {
      case Common.QUEUE_SIZE:
        return get(QueueWord.SIZE);
      case Common.QUEUE_MSIX_VECTOR:
        return get(QueueWord.VECTOR);
      case Common.QUEUE_ENABLE:
        return get(QueueWord.ENABLED);
      case Common.QUEUE_NOTIFY_OFF:
      case Common.QUEUE_NOTIFY_DATA:
        return queue;
      case Common.QUEUE_RESET:
        return get(QueueWord.RESETTING);
      default: {
        const area = AREAS.get(offset & ~4);
        return area === undefined ? 0 : get(area + (offset & 4 ? 1 : 0));
      }
    }
  }

  #writeCommon(offset: number, value: number): void {
    const shared = this.shared;
    // A driver that does not wait for its reset has no device to set up.
    if (shared.get(Word.RESETTING)) return;
    const status = shared.get(Word.STATUS);
    switch (offset) {
      case Common.DEVICE_FEATURE_SELECT:
        shared.set(Word.DEVICE_FEATURE_SELECT, value);
        break;
      case Common.DRIVER_FEATURE_SELECT:
        shared.set(Word.DRIVER_FEATURE_SELECT, value);
        break;
      case Common.DRIVER_FEATURE: {
        // 2.2.1: not after FEATURES_OK.
        const select = shared.get(Word.DRIVER_FEATURE_SELECT) >>> 0;
        if (select < 2 && !(status & Status.FEATURES_OK)) shared.set(Word.DRIVER_FEATURES_LOW + select, value);
        break;
      }
      case Common.CONFIG_MSIX_VECTOR:
        shared.set(Word.CONFIG_VECTOR, this.vector(value));
        break;
      case Common.DEVICE_STATUS:
        if (value === 0) this.reset();
        else this.#writeStatus(status, value);
        break;
      case Common.QUEUE_SELECT:
        shared.set(Word.QUEUE_SELECT, value);
        break;
      default:
        this.#writeQueueField(offset, value);
    }
  }

  #writeQueueField(offset: number, value: number): void {
    const queue = this.selected();
    if (queue === undefined) return;
    const shared = this.shared;
    const at = (field: number) => shared.queueWord(queue, field);
    switch (offset) {
      case Common.QUEUE_MSIX_VECTOR:
        shared.set(at(QueueWord.VECTOR), this.vector(value));
        return;
      case Common.QUEUE_RESET:
        if (value === 1) this.#resetQueue(queue);
        return;
    }
    // 4.1.4.3.2: the rest is set before the queue is enabled, and a queue is disabled only by a reset.
    if (shared.get(at(QueueWord.ENABLED)) || shared.get(at(QueueWord.RESETTING))) return;
    switch (offset) {
      case Common.QUEUE_SIZE:
        if (this.#isQueueSize(queue, value)) shared.set(at(QueueWord.SIZE), value);
        return;
      case Common.QUEUE_ENABLE:
        if (value !== 1) return;
        shared.set(at(QueueWord.ENABLED), 1);
        // Before DRIVER_OK the I/O thread needs not know.
        if (shared.get(Word.STATUS) & Status.DRIVER_OK) this.leave(Control.QUEUE);
        return;
      default: {
        const area = AREAS.get(offset & ~4);
        if (area !== undefined) shared.set(at(area + (offset & 4 ? 1 : 0)), value);
      }
    }
  }

  /** The status's life (3.1.1), step by step; a step that was not prepared is not taken. */
  #writeStatus(status: number, value: number): void {
    let next = status | (value & (Status.ACKNOWLEDGE | Status.DRIVER | Status.FAILED));
    const prepared = Status.ACKNOWLEDGE | Status.DRIVER;
    const features = this.shared.driverFeatures;
    if (value & Status.FEATURES_OK && (next & prepared) === prepared && this.#accepts(features)) {
      next |= Status.FEATURES_OK;
    }
    if (value & Status.DRIVER_OK && next & Status.FEATURES_OK) next |= Status.DRIVER_OK;
    this.addStatus(next);
  }

  /** 2.2.2, 6.1: a subset of what is offered, by a driver of this version of virtio. */
  #accepts(features: bigint): boolean {
    return (features & ~this.handle.features) === 0n && (features & Feature.VERSION_1) !== 0n;
  }

  #resetQueue(queue: number): void {
    const shared = this.shared;
    const running = Status.DRIVER_OK;
    if (!(shared.driverFeatures & Feature.RING_RESET) || !(shared.get(Word.STATUS) & running)) return;
    if (!shared.get(shared.queueWord(queue, QueueWord.ENABLED))) return;
    shared.set(shared.queueWord(queue, QueueWord.RESETTING), 1);
    this.leave(Control.QUEUE);
  }

  #isQueueSize(queue: number, size: number): boolean {
    const packed = (this.shared.driverFeatures & Feature.RING_PACKED) !== 0n;
    const most = Math.min(this.handle.queueSizes[queue]!, MAX_QUEUE_SIZE);
    return size > 0 && size <= most && (packed || (size & (size - 1)) === 0);
  }
}

/** 32 bits of a feature set; the select register can ask for any. */
function word(features: bigint, select: number): number {
  const index = select >>> 0;
  return index > 1 ? 0 : Number((features >> BigInt(index * 32)) & 0xffffffffn);
}
