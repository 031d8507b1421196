/**
 * What a transport's two sides share: the registers, which every vCPU answers in its own thread, and the I/O thread that
 * runs the device. One word each, read and written whole, so that nobody waits for anybody.
 */

/** Words of the header. */
export const Word = {
  DEVICE_FEATURE_SELECT: 0,
  DRIVER_FEATURE_SELECT: 1,
  DRIVER_FEATURES_LOW: 2,
  DRIVER_FEATURES_HIGH: 3,
  CONFIG_VECTOR: 4,
  STATUS: 5,
  /** Odd while the I/O thread writes the configuration. */
  GENERATION: 6,
  QUEUE_SELECT: 7,
  ISR: 8,
  /** What the I/O thread shall look at: {@link Control}. */
  CONTROL: 9,
  /** 1 from a reset's request until the device has stopped. */
  RESETTING: 10,
  COUNT: 11,
} as const;

/** Words of each queue. */
export const QueueWord = {
  SIZE: 0,
  VECTOR: 1,
  ENABLED: 2,
  DESCRIPTORS: 3,
  DRIVER: 5,
  DEVICE: 7,
  /** 1 while the I/O thread stops it (4.1.4.3.1: queue_reset). */
  RESETTING: 9,
  COUNT: 10,
} as const;

/** What vCPUs leave for the I/O thread. */
export const Control = { STATUS: 1, CONFIG: 2, QUEUE: 4 } as const;

/** device_status (2.1). */
export const Status = {
  ACKNOWLEDGE: 1,
  DRIVER: 2,
  DRIVER_OK: 4,
  FEATURES_OK: 8,
  NEEDS_RESET: 64,
  FAILED: 128,
} as const;

/** ISR status (4.1.4.5). */
export const Isr = { QUEUE: 1, CONFIG: 2 } as const;

/** 4.1.4.3: VIRTIO_MSI_NO_VECTOR. */
export const NO_VECTOR = 0xffff;

/** A virtio device's registers as a value that can be posted to the vCPUs' threads. */
export interface VirtioRegistersHandle {
  readonly buffer: SharedArrayBuffer;
  readonly type: number;
  /** Everything that is offered. */
  readonly features: bigint;
  readonly queueSizes: readonly number[];
  readonly configLength: number;
  readonly writableConfig: readonly [from: number, to: number];
  /** MSI-X vectors of the function: one for the configuration and one for each queue. */
  readonly vectors: number;
  /** Whether drivers from before virtio 1 find it as well. */
  readonly isTransitional: boolean;
}

export function createRegisters(fixed: Omit<VirtioRegistersHandle, "buffer" | "vectors">): VirtioRegistersHandle {
  const words = Word.COUNT + QueueWord.COUNT * fixed.queueSizes.length + Math.ceil(fixed.configLength / 4);
  const handle = { ...fixed, buffer: new SharedArrayBuffer(words * 4), vectors: fixed.queueSizes.length + 1 };
  new SharedRegisters(handle).reset();
  return handle;
}

/** The shared words, from either side. */
export class SharedRegisters {
  readonly words: Int32Array;
  readonly #handle: VirtioRegistersHandle;
  readonly #config: number;

  constructor(handle: VirtioRegistersHandle) {
    this.words = new Int32Array(handle.buffer);
    this.#handle = handle;
    this.#config = Word.COUNT + QueueWord.COUNT * handle.queueSizes.length;
  }

  get(word: number): number {
    return Atomics.load(this.words, word);
  }

  set(word: number, value: number): void {
    Atomics.store(this.words, word, value);
  }

  /** The word's place for a queue, which must exist. */
  queueWord(queue: number, word: number): number {
    return Word.COUNT + queue * QueueWord.COUNT + word;
  }

  /** A queue's u64 that was written as two words, as a number: inexact above 2^53, where there is no RAM. */
  address(queue: number, word: number): number {
    const at = this.queueWord(queue, word);
    return (this.get(at) >>> 0) + (this.get(at + 1) >>> 0) * 2 ** 32;
  }

  setAddress(queue: number, word: number, address: number): void {
    const at = this.queueWord(queue, word);
    this.set(at, address % 2 ** 32);
    this.set(at + 1, Math.floor(address / 2 ** 32));
  }

  get driverFeatures(): bigint {
    const high = this.get(Word.DRIVER_FEATURES_HIGH) >>> 0;
    return (BigInt(high) << 32n) | BigInt(this.get(Word.DRIVER_FEATURES_LOW) >>> 0);
  }

  /** Everything but the device's configuration as after power-on. The status, which drivers wait for, comes last. */
  reset(): void {
    for (const queue of this.#handle.queueSizes.keys()) this.resetQueue(queue);
    const kept: number[] = [Word.GENERATION, Word.CONTROL, Word.CONFIG_VECTOR, Word.STATUS];
    for (let word = 0; word < Word.COUNT; word++) if (!kept.includes(word)) this.set(word, 0);
    this.set(Word.CONFIG_VECTOR, NO_VECTOR);
    this.set(Word.STATUS, 0);
    Atomics.notify(this.words, Word.RESETTING);
  }

  /** One queue as after power-on. That it is being reset ends last. */
  resetQueue(queue: number): void {
    this.set(this.queueWord(queue, QueueWord.SIZE), this.#handle.queueSizes[queue]!);
    this.set(this.queueWord(queue, QueueWord.VECTOR), NO_VECTOR);
    for (let word = QueueWord.ENABLED; word < QueueWord.COUNT; word++) this.set(this.queueWord(queue, word), 0);
    Atomics.notify(this.words, this.queueWord(queue, QueueWord.RESETTING));
  }

  /** One byte of the configuration; 0 behind its end. */
  configByte(offset: number): number {
    if (offset >= this.#handle.configLength) return 0;
    return (this.get(this.#config + (offset >> 2)) >>> ((offset & 3) * 8)) & 0xff;
  }

  /** A driver's write of one byte, if the byte is writable. */
  writeConfigByte(offset: number, value: number): void {
    const [from, to] = this.#handle.writableConfig;
    if (offset < from || offset >= to) return;
    const word = this.#config + (offset >> 2);
    const shift = (offset & 3) * 8;
    Atomics.and(this.words, word, ~(0xff << shift));
    Atomics.or(this.words, word, (value & 0xff) << shift);
  }

  /** Aligned accesses of 4 bytes or less are whole: no reader sees half of a value. */
  readConfig(offset: number, size: number): number {
    if (offset % size === 0 && offset + size <= this.#handle.configLength) {
      const word = this.get(this.#config + (offset >> 2));
      return size === 4 ? word >>> 0 : (word >>> ((offset & 3) * 8)) & (2 ** (size * 8) - 1);
    }
    let value = 0;
    for (let byte = size - 1; byte >= 0; byte--) value = value * 256 + this.configByte(offset + byte);
    return value;
  }

  /** The I/O thread publishes the configuration, whole. */
  publishConfig(config: Uint8Array): void {
    Atomics.add(this.words, Word.GENERATION, 1);
    for (let at = 0; at < this.#handle.configLength; at += 4) {
      const word = config[at]! | ((config[at + 1] ?? 0) << 8) | ((config[at + 2] ?? 0) << 16);
      this.set(this.#config + (at >> 2), word | ((config[at + 3] ?? 0) << 24));
    }
    Atomics.add(this.words, Word.GENERATION, 1);
  }

  /**
   * config_generation (2.5): differs when the configuration changed in between. While it is being written, each look
   * gives another value, so that no driver takes what it reads meanwhile.
   */
  readGeneration(): number {
    const generation = this.get(Word.GENERATION);
    return (generation & 1 ? Atomics.add(this.words, Word.GENERATION, 2) : generation) & 0xff;
  }
}
