/**
 * The registers that drivers from before virtio 1 know: a BAR of ports, with the device's configuration behind them (virtio 1.2,
 * 4.1.4.10). A queue is one piece of memory, whose page is all that there is to set; there are 32 features, which nobody confirms.
 */

import { MAX_QUEUE_SIZE } from "../queue/index.ts";
import { DriverSide, readFields } from "./driver-side.ts";
import { Control, QueueWord, Status, Word } from "./shared.ts";

const Register = {
  DEVICE_FEATURES: 0,
  DRIVER_FEATURES: 4,
  QUEUE_ADDRESS: 8,
  QUEUE_SIZE: 12,
  QUEUE_SELECT: 14,
  QUEUE_NOTIFY: 16,
  DEVICE_STATUS: 18,
  ISR: 19,
  /** Both only while the function has MSI-X on. */
  CONFIG_VECTOR: 20,
  QUEUE_VECTOR: 22,
} as const;

const WIDTHS = new Map<number, number>([
  [Register.DEVICE_FEATURES, 4],
  [Register.DRIVER_FEATURES, 4],
  [Register.QUEUE_ADDRESS, 4],
  [Register.QUEUE_SIZE, 2],
  [Register.QUEUE_SELECT, 2],
  [Register.QUEUE_NOTIFY, 2],
  [Register.DEVICE_STATUS, 1],
  [Register.ISR, 1],
  [Register.CONFIG_VECTOR, 2],
  [Register.QUEUE_VECTOR, 2],
]);

/** Bytes of the registers in front of the configuration, without MSI-X and with it. */
const SHORT_LENGTH = 20;
export const LEGACY_LENGTH = 24;

/** What queues are aligned to, and their used ring in them (2.7.2). */
const PAGE = 4096;

/** Requests may be put together as the driver likes (6.3); offered here, where it is not a matter of course. */
const ANY_LAYOUT = 1 << 27;

/** What the driver writes of the status; it cannot say FEATURES_OK. */
const WRITABLE_STATUS = Status.ACKNOWLEDGE | Status.DRIVER | Status.DRIVER_OK | Status.FAILED;

export interface LegacyEvents {
  /** Whether the function has MSI-X on. */
  readonly messages: boolean;
  /**
   * Holds this thread up until the word is no longer 1, or for so long that the guest must not wait any more: these drivers
   * take a reset to be over when they have asked for it.
   */
  wait(words: Int32Array, word: number): void;
}

export class LegacyRegisters extends DriverSide {
  readonly #legacy: LegacyEvents;

  constructor(handle: DriverSide["handle"], events: DriverSide["events"], legacy: LegacyEvents) {
    super(handle, events);
    this.#legacy = legacy;
  }

  get #configAt(): number {
    return this.#legacy.messages ? LEGACY_LENGTH : SHORT_LENGTH;
  }

  read(offset: number, size: number): number {
    const end = this.#configAt;
    if (offset >= end) return this.shared.readConfig(offset - end, size);
    return readFields(offset, size, { widths: WIDTHS, end }, (at) => this.#field(at));
  }

  /** What cannot be written, or not in this width or now, stays as it is. */
  write(offset: number, size: number, value: number): void {
    const end = this.#configAt;
    if (offset >= end) this.writeConfig(offset - end, size, value);
    else if (WIDTHS.get(offset) === size && !this.shared.get(Word.RESETTING)) this.#write(offset, value);
  }

  #field(offset: number): number {
    const { shared } = this;
    const queue = this.selected();
    switch (offset) {
      case Register.DEVICE_FEATURES:
        return Number(this.handle.features & 0xffffffffn) | ANY_LAYOUT;
      case Register.DRIVER_FEATURES:
        return shared.get(Word.DRIVER_FEATURES_LOW);
      case Register.QUEUE_ADDRESS:
        return queue === undefined ? 0 : shared.address(queue, QueueWord.DESCRIPTORS) / PAGE;
      case Register.QUEUE_SIZE:
        return queue === undefined ? 0 : this.#sizeOf(queue);
      case Register.QUEUE_SELECT:
        return shared.get(Word.QUEUE_SELECT);
      case Register.DEVICE_STATUS:
        return shared.get(Word.STATUS);
      case Register.ISR:
        return this.takeIsr();
      case Register.CONFIG_VECTOR:
        return shared.get(Word.CONFIG_VECTOR);
      case Register.QUEUE_VECTOR:
        return queue === undefined ? 0 : shared.get(shared.queueWord(queue, QueueWord.VECTOR));
      default:
        return 0;
    }
  }

  /** The driver has no say in it, and it is a power of two (2.7). */
  #sizeOf(queue: number): number {
    return 2 ** Math.floor(Math.log2(Math.min(this.handle.queueSizes[queue]!, MAX_QUEUE_SIZE)));
  }

  #write(offset: number, value: number): void {
    const { shared } = this;
    const queue = this.selected();
    switch (offset) {
      case Register.DRIVER_FEATURES:
        if (shared.get(Word.STATUS) & Status.DRIVER_OK) break;
        // Nobody would ask whether they were accepted.
        shared.set(Word.DRIVER_FEATURES_LOW, Number(BigInt(value >>> 0) & this.handle.features));
        shared.set(Word.DRIVER_FEATURES_HIGH, 0);
        break;
      case Register.QUEUE_ADDRESS:
        if (queue !== undefined) this.#place(queue, (value >>> 0) * PAGE);
        break;
      case Register.QUEUE_SELECT:
        shared.set(Word.QUEUE_SELECT, value);
        break;
      case Register.QUEUE_NOTIFY:
        this.#ring(value);
        break;
      case Register.DEVICE_STATUS:
        if (value !== 0) this.addStatus(value & WRITABLE_STATUS);
        else {
          this.reset();
          this.#legacy.wait(shared.words, Word.RESETTING);
        }
        break;
      case Register.CONFIG_VECTOR:
        shared.set(Word.CONFIG_VECTOR, this.vector(value));
        break;
      case Register.QUEUE_VECTOR:
        if (queue !== undefined) shared.set(shared.queueWord(queue, QueueWord.VECTOR), this.vector(value));
        break;
    }
  }

  /** A queue begins to be used when it has an address, and ends when it has none. */
  #place(queue: number, gpa: number): void {
    const { shared } = this;
    const at = (field: number) => shared.queueWord(queue, field);
    const isEnabled = shared.get(at(QueueWord.ENABLED)) === 1;
    const isRunning = (shared.get(Word.STATUS) & Status.DRIVER_OK) !== 0;
    if (gpa === 0) {
      if (!isEnabled) return;
      if (!isRunning) {
        shared.resetQueue(queue);
        return;
      }
      shared.set(at(QueueWord.RESETTING), 1);
      this.leave(Control.QUEUE);
      this.#legacy.wait(shared.words, at(QueueWord.RESETTING));
      return;
    }
    if (isEnabled) return;
    const size = this.#sizeOf(queue);
    const driver = gpa + 16 * size;
    // Flags, index, ring and event index of what is available; the used ring begins with the next page.
    const device = Math.ceil((driver + 6 + 2 * size) / PAGE) * PAGE;
    shared.set(at(QueueWord.SIZE), size);
    shared.setAddress(queue, QueueWord.DESCRIPTORS, gpa);
    shared.setAddress(queue, QueueWord.DRIVER, driver);
    shared.setAddress(queue, QueueWord.DEVICE, device);
    shared.set(at(QueueWord.ENABLED), 1);
    if (isRunning) this.leave(Control.QUEUE);
  }

  /** Linux before 3.19 used its devices while it was still setting them up: a ring says as much as DRIVER_OK. */
  #ring(queue: number): void {
    if (queue >= this.handle.queueSizes.length) return;
    if (this.shared.get(this.shared.queueWord(queue, QueueWord.ENABLED))) this.addStatus(Status.DRIVER_OK);
    this.events.notify(queue);
  }
}
