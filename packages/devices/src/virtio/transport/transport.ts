/**
 * The I/O thread's side of a virtio device: starts and stops it as the driver's registers say, opens its queues over guest
 * memory, and turns what it has to say into interrupts.
 */

import { DeviceError } from "../../errors.ts";
import type { GuestRam } from "../../ram.ts";
import {
  flag,
  group,
  type Infer,
  list,
  optional,
  type SavedState,
  stateRecord,
  u8,
  u16,
  u32,
  u64,
} from "../../state.ts";
import { Feature, type VirtioDevice } from "../device.ts";
import { openQueue, type QueuePosition, type Virtqueue } from "../queue/index.ts";
import {
  Control,
  createRegisters,
  Isr,
  NO_VECTOR,
  QueueWord,
  SharedRegisters,
  Status,
  type VirtioRegistersHandle,
  Word,
} from "./shared.ts";

/** Where the device's interrupts go. */
export interface VirtioInterrupts {
  /** Whether the driver has MSI-X on now; else there is the line. */
  readonly messages: boolean;
  /** Sends an MSI-X vector, or remembers it while it is masked. */
  message(vector: number): void;
  raiseLine(): void;
  lowerLine(): void;
}

const record = stateRecord("virtio-transport", 1, {
  driverFeatures: u64,
  status: u8,
  isr: u8,
  configVector: u16,
  deviceFeatureSelect: u32,
  driverFeatureSelect: u32,
  queueSelect: u16,
  queues: list(
    group({
      size: u16,
      vector: u16,
      enabled: flag,
      descriptors: u64,
      driver: u64,
      device: u64,
      position: optional(group({ available: u16, used: u16 })),
    }),
    1024,
  ),
});
type QueueState = Infer<typeof record>["queues"][number];

export interface TransportOptions {
  ram: GuestRam;
  interrupts: VirtioInterrupts;
  /** Told when the driver broke the rules and the device waits for its reset. */
  onFailure?: (reason: string) => void;
  /** Constructs it as it was when saved, and paused. */
  saved?: SavedState;
}

export class VirtioTransport {
  /** For the vCPUs' threads: `new VirtioRegisters(handle, …)`. */
  readonly handle: VirtioRegistersHandle;
  readonly device: VirtioDevice;
  readonly #shared: SharedRegisters;
  readonly #options: TransportOptions;
  readonly #queues: (Virtqueue | undefined)[] = [];
  #running = false;
  #paused = false;
  #features = 0n;
  /** A stop that is under way: of the device or of some of its queues. */
  #stopping: Promise<void> | undefined;

  constructor(device: VirtioDevice, options: TransportOptions) {
    this.device = device;
    this.#options = options;
    this.handle = createRegisters({
      type: device.type,
      features: device.features | device.ringFeatures | Feature.VERSION_1,
      queueSizes: device.queueSizes,
      configLength: device.config.length,
      writableConfig: device.writableConfig,
      isTransitional: device.isTransitional,
    });
    this.#shared = new SharedRegisters(this.handle);
    this.#shared.publishConfig(device.config);
    const transport = this;
    device.connect({
      ram: options.ram,
      queues: this.#queues,
      get features() {
        return transport.#features;
      },
      get isLegacy() {
        return transport.#running && !(transport.#features & Feature.VERSION_1);
      },
      configChanged: () => this.#configChanged(),
      fail: (reason) => this.#fail(reason),
    });
    if (options.saved !== undefined) this.#restore(options.saved);
  }

  /** Looks at what the driver has set. Call when the vCPUs' side says so. */
  control(): void {
    if (this.#paused || this.#stopping !== undefined) return;
    const what = Atomics.exchange(this.#shared.words, Word.CONTROL, 0);
    if (what & Control.CONFIG) this.#takeConfig();
    if (this.#shared.get(Word.RESETTING)) this.#reset();
    else if (!this.#running && this.#shared.get(Word.STATUS) & Status.DRIVER_OK) this.#start([]);
    else if (this.#running && what & Control.QUEUE) this.#changeQueues();
  }

  /** The driver rang for a queue. */
  notified(queue: number): void {
    if (this.#running && !this.#paused && this.#stopping === undefined && this.#queues[queue] !== undefined) {
      this.device.notified(queue);
    }
  }

  /** Leaves guest memory and the back end alone. The vCPUs should be stopped. */
  async pause(): Promise<void> {
    this.control();
    this.#paused = true;
    await this.#stopping;
    await this.device.pause();
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.device.resume();
    this.control();
    this.#notifyAll();
  }

  /** Only when paused. The device's own state is apart: {@link VirtioDevice.save}. */
  save(): SavedState {
    const shared = this.#shared;
    const queues = this.handle.queueSizes.map((_, queue): QueueState => {
      const get = (field: number) => shared.get(shared.queueWord(queue, field));
      const wide = (field: number) => hex(BigInt(get(field) >>> 0) | (BigInt(get(field + 1) >>> 0) << 32n));
      return {
        size: get(QueueWord.SIZE),
        vector: get(QueueWord.VECTOR),
        enabled: get(QueueWord.ENABLED) === 1,
        descriptors: wide(QueueWord.DESCRIPTORS),
        driver: wide(QueueWord.DRIVER),
        device: wide(QueueWord.DEVICE),
        position: this.#queues[queue]?.position,
      };
    });
    return record.save({
      driverFeatures: hex(shared.driverFeatures),
      status: shared.get(Word.STATUS),
      isr: shared.get(Word.ISR),
      configVector: shared.get(Word.CONFIG_VECTOR),
      deviceFeatureSelect: shared.get(Word.DEVICE_FEATURE_SELECT) >>> 0,
      driverFeatureSelect: shared.get(Word.DRIVER_FEATURE_SELECT) >>> 0,
      queueSelect: shared.get(Word.QUEUE_SELECT) >>> 0,
      queues,
    });
  }

  /** The machine ends. The device may have another transport afterwards. */
  async close(): Promise<void> {
    const wasPaused = this.#paused;
    this.#paused = true;
    await this.#stopping;
    await this.#stop();
    if (wasPaused) this.device.resume();
  }

  #restore(saved: SavedState): void {
    const state = record.restore(saved);
    const shared = this.#shared;
    const missing = BigInt(state.driverFeatures) & ~this.handle.features;
    if (missing !== 0n) throw differs(`the driver uses features ${hex(missing)}, which this device does not offer`);
    const queues = this.handle.queueSizes.length;
    if (state.queues.length !== queues) throw differs(`it has ${state.queues.length} queues, this device ${queues}`);
    shared.set(Word.STATUS, state.status);
    shared.set(Word.ISR, state.isr);
    shared.set(Word.CONFIG_VECTOR, state.configVector);
    shared.set(Word.DEVICE_FEATURE_SELECT, state.deviceFeatureSelect);
    shared.set(Word.DRIVER_FEATURE_SELECT, state.driverFeatureSelect);
    shared.set(Word.QUEUE_SELECT, state.queueSelect);
    this.#setWide(Word.DRIVER_FEATURES_LOW, state.driverFeatures);
    for (const [queue, one] of state.queues.entries()) {
      const at = (field: number) => shared.queueWord(queue, field);
      shared.set(at(QueueWord.SIZE), Math.min(one.size, this.handle.queueSizes[queue]!));
      shared.set(at(QueueWord.VECTOR), one.vector);
      shared.set(at(QueueWord.ENABLED), one.enabled ? 1 : 0);
      this.#setWide(at(QueueWord.DESCRIPTORS), one.descriptors);
      this.#setWide(at(QueueWord.DRIVER), one.driver);
      this.#setWide(at(QueueWord.DEVICE), one.device);
    }
    if (state.status & Status.DRIVER_OK) this.#start(state.queues.map(({ position }) => position));
    this.#paused = true;
  }

  #setWide(word: number, value: string): void {
    this.#shared.set(word, Number(BigInt(value) & 0xffffffffn));
    this.#shared.set(word + 1, Number(BigInt(value) >> 32n));
  }

  #start(positions: (QueuePosition | undefined)[]): void {
    this.#running = true;
    this.#features = this.#shared.driverFeatures;
    for (const queue of this.handle.queueSizes.keys()) this.#openQueue(queue, positions[queue]);
    this.device.start();
    // Rings that came before the device was started.
    if (positions.length === 0) this.#notifyAll();
  }

  #openQueue(queue: number, position?: QueuePosition): void {
    const shared = this.#shared;
    if (!shared.get(shared.queueWord(queue, QueueWord.ENABLED))) return;
    const layout = {
      size: shared.get(shared.queueWord(queue, QueueWord.SIZE)),
      descriptors: shared.address(queue, QueueWord.DESCRIPTORS),
      driver: shared.address(queue, QueueWord.DRIVER),
      device: shared.address(queue, QueueWord.DEVICE),
      packed: (this.#features & Feature.RING_PACKED) !== 0n,
      eventIndex: (this.#features & Feature.EVENT_IDX) !== 0n,
      indirect: (this.#features & Feature.INDIRECT_DESC) !== 0n,
    };
    const events = {
      interrupt: () => this.#interrupt(Isr.QUEUE, shared.get(shared.queueWord(queue, QueueWord.VECTOR))),
      broken: (reason: string) => this.#fail(`queue ${queue}: ${reason}`),
      later: () => void setImmediate(() => this.notified(queue)),
    };
    const opened = openQueue(layout, this.#options.ram, events, position);
    if (typeof opened === "string") this.#fail(`queue ${queue}: ${opened}`);
    else this.#queues[queue] = opened;
  }

  #notifyAll(): void {
    for (const queue of this.handle.queueSizes.keys()) this.notified(queue);
  }

  /** Queues that the driver enabled or wants reset while the device runs. */
  #changeQueues(): void {
    const shared = this.#shared;
    const stops: Promise<void>[] = [];
    for (const queue of this.handle.queueSizes.keys()) {
      const resetting = shared.queueWord(queue, QueueWord.RESETTING);
      if (shared.get(resetting)) {
        stops.push(this.#resetQueue(queue));
      } else if (this.#queues[queue] === undefined && shared.get(shared.queueWord(queue, QueueWord.ENABLED))) {
        this.#openQueue(queue);
        this.notified(queue);
      }
    }
    if (stops.length > 0) this.#during(Promise.all(stops).then(() => {}));
  }

  async #resetQueue(queue: number): Promise<void> {
    this.#queues[queue]?.close();
    await this.device.stopQueue(queue);
    this.#queues[queue] = undefined;
    this.#shared.resetQueue(queue);
  }

  #reset(): void {
    this.#during(
      this.#stop().then(() => {
        this.#options.interrupts.lowerLine();
        this.#shared.publishConfig(this.device.config);
        this.#shared.reset();
      }),
    );
  }

  /** Nothing else is looked at until a stop is over. */
  #during(stop: Promise<void>): void {
    this.#stopping = stop.then(() => {
      this.#stopping = undefined;
      this.control();
      this.#notifyAll();
    });
  }

  async #stop(): Promise<void> {
    if (!this.#running) return;
    for (const queue of this.#queues) queue?.close();
    await this.device.stop();
    this.#running = false;
    this.#features = 0n;
    this.#queues.length = 0;
  }

  #takeConfig(): void {
    const [from, to] = this.handle.writableConfig;
    for (let at = from; at < to; at++) this.device.config[at] = this.#shared.configByte(at);
    this.device.configWritten();
  }

  #configChanged(): void {
    this.#shared.publishConfig(this.device.config);
    if (this.#running) this.#interrupt(Isr.CONFIG, this.#shared.get(Word.CONFIG_VECTOR));
  }

  #fail(reason: string): void {
    const before = Atomics.or(this.#shared.words, Word.STATUS, Status.NEEDS_RESET);
    if (before & Status.NEEDS_RESET) return;
    this.#options.onFailure?.(reason);
    this.#interrupt(Isr.CONFIG, this.#shared.get(Word.CONFIG_VECTOR));
  }

  /** 4.1.5.3: a message if there are messages, else the line with its reason in the ISR. */
  #interrupt(reason: number, vector: number): void {
    const { interrupts } = this.#options;
    if (interrupts.messages) {
      if (vector !== NO_VECTOR) interrupts.message(vector);
      return;
    }
    Atomics.or(this.#shared.words, Word.ISR, reason);
    interrupts.raiseLine();
  }
}

function differs(how: string): DeviceError {
  return new DeviceError("DEVICE_STATE", `the saved state of virtio-transport is of another device: ${how}`);
}

function hex(value: bigint): string {
  return `0x${value.toString(16)}`;
}
