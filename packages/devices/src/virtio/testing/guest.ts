/** A guest for tests: memory, and a driver that works a device through its registers as Linux does. */

import { MappedRam } from "../../ram.ts";
import type { SavedState } from "../../state.ts";
import { Feature, type VirtioDevice } from "../device.ts";
import { LegacyRegisters } from "../transport/legacy-registers.ts";
import { VirtioRegisters } from "../transport/registers.ts";
import { NO_VECTOR, Status } from "../transport/shared.ts";
import { VirtioTransport } from "../transport/transport.ts";
import { type Buffer, type DriverRing, PackedDriverRing, type RingAreas, SplitDriverRing } from "./ring.ts";

export interface GuestOptions {
  /** What the driver wants, where it is offered; without VERSION_1 it is one from before virtio 1. */
  features?: bigint;
  memoryBytes?: number;
  /** MSI-X, or the line. */
  messages?: boolean;
  /** The guest goes on with another device: the transport's state, and whose memory and rings there are. */
  saved?: SavedState;
  from?: TestGuest;
  /** Other programs may be given its memory, as this file. Nothing in the tests maps it. */
  file?: { readonly fd: number; readonly address: number };
}

export class TestGuest {
  readonly memory: Uint8Array;
  readonly view: DataView;
  readonly ram: MappedRam;
  readonly transport: VirtioTransport;
  readonly registers: VirtioRegisters;
  readonly legacy: LegacyRegisters;
  readonly rings: DriverRing[];
  /** Every vector that was sent, in order. */
  readonly messages: number[] = [];
  readonly failures: string[] = [];
  /** What devices said that they wrote, where there is a file of it. */
  readonly written: [gpa: number, length: number][] = [];
  line = false;
  features: bigint;
  readonly #wanted: bigint;
  #top: number;
  #wake: (() => void)[] = [];

  constructor(device: VirtioDevice, options: GuestOptions = {}) {
    const { from } = options;
    const { memoryBytes = 0x100000 } = options;
    // A buffer that could grow begins at a page, unlike one that cannot.
    const buffer = from?.view.buffer ?? new SharedArrayBuffer(memoryBytes, { maxByteLength: memoryBytes });
    this.rings = from?.rings ?? [];
    this.features = from?.features ?? 0n;
    this.#top = from?.top ?? 0x1000;
    this.memory = new Uint8Array(buffer);
    this.view = new DataView(buffer);
    const pieces = [{ gpa: 0, sizeBytes: buffer.byteLength, offset: 0 }];
    const written = (gpa: number, length: number) => void this.written.push([gpa, length]);
    const shared = options.file && { ...options.file, start: 0, pieces };
    this.ram = new MappedRam(buffer, pieces, options.file && written, shared);
    this.#wanted = options.features ?? -1n;
    const { messages = true } = options;
    this.transport = new VirtioTransport(device, {
      ram: this.ram,
      interrupts: {
        messages,
        message: (vector) => {
          this.messages.push(vector);
          this.#interrupted();
        },
        raiseLine: () => {
          this.line = true;
          this.#interrupted();
        },
        lowerLine: () => {
          this.line = false;
        },
      },
      onFailure: (reason) => this.failures.push(reason),
      ...(options.saved === undefined ? {} : { saved: options.saved }),
    });
    const events = {
      control: () => this.transport.control(),
      notify: (queue: number) => this.transport.notified(queue),
      lowerLine: () => {
        this.line = false;
      },
    };
    this.registers = new VirtioRegisters(this.transport.handle, events);
    // Nobody else could end a reset while this thread waits.
    this.legacy = new LegacyRegisters(this.transport.handle, events, { messages, wait: () => {} });
  }

  get #isLegacy(): boolean {
    return !(this.#wanted & Feature.VERSION_1);
  }

  /** Where free memory begins. */
  get top(): number {
    return this.#top;
  }

  #interrupted(): void {
    for (const wake of this.#wake.splice(0)) wake();
  }

  /** Resolves at the next interrupt. */
  interrupt(): Promise<void> {
    return new Promise((resolve) => this.#wake.push(resolve));
  }

  allocate(length: number, alignment = 16): number {
    const gpa = Math.ceil(this.#top / alignment) * alignment;
    this.#top = gpa + length;
    if (this.#top > this.memory.length) throw new RangeError("the test guest's memory is full");
    return gpa;
  }

  common(offset: number, size: number): number {
    return this.registers.read("common", offset, size);
  }

  setCommon(offset: number, size: number, value: number): void {
    this.registers.write("common", offset, size, value);
  }

  get status(): number {
    return this.common(0x14, 1);
  }

  set status(value: number) {
    this.setCommon(0x14, 1, value);
  }

  /** 3.1.1: from reset to DRIVER_OK, with every queue enabled. */
  start(queueSize?: number): this {
    if (this.#isLegacy) return this.#startLegacy();
    this.status = 0;
    this.negotiate();
    for (let queue = 0; queue < this.common(0x12, 2); queue++) this.enableQueue(queue, queueSize);
    this.setCommon(0x10, 2, 0);
    this.status = this.status | Status.DRIVER_OK;
    return this;
  }

  /** 3.1.2: without FEATURES_OK; queues are as long as the device has them. */
  #startLegacy(): this {
    const { legacy } = this;
    legacy.write(18, 1, 0);
    legacy.write(18, 1, Status.ACKNOWLEDGE);
    legacy.write(18, 1, Status.ACKNOWLEDGE | Status.DRIVER);
    this.features = BigInt(legacy.read(0, 4)) & this.#wanted;
    legacy.write(4, 4, Number(this.features));
    legacy.write(20, 2, 0);
    for (let queue = 0; ; queue++) {
      legacy.write(14, 2, queue);
      const size = legacy.read(12, 2);
      if (size === 0) break;
      const driver = 16 * size;
      const device = Math.ceil((driver + 6 + 2 * size) / 4096) * 4096;
      const gpa = this.allocate(device + 6 + 8 * size, 4096);
      this.memory.fill(0, gpa, gpa + device + 4);
      legacy.write(8, 4, gpa / 4096);
      legacy.write(22, 2, queue + 1);
      this.#addRing(queue, size, { descriptors: gpa, driver: gpa + driver, device: gpa + device });
    }
    legacy.write(18, 1, Status.ACKNOWLEDGE | Status.DRIVER | Status.DRIVER_OK);
    return this;
  }

  negotiate(): void {
    this.status = Status.ACKNOWLEDGE;
    this.status = Status.ACKNOWLEDGE | Status.DRIVER;
    let offered = 0n;
    for (const select of [0, 1]) {
      this.setCommon(0, 4, select);
      offered |= BigInt(this.common(4, 4)) << BigInt(32 * select);
    }
    this.features = offered & this.#wanted;
    for (const select of [0, 1]) {
      this.setCommon(8, 4, select);
      this.setCommon(12, 4, Number((this.features >> BigInt(32 * select)) & 0xffffffffn));
    }
    this.status = this.status | Status.FEATURES_OK;
    if (!(this.status & Status.FEATURES_OK)) throw new Error("the device refuses the features that it offers");
  }

  enableQueue(queue: number, wantedSize?: number): DriverRing {
    this.setCommon(0x16, 2, queue);
    const size = wantedSize ?? this.common(0x18, 2);
    this.setCommon(0x18, 2, size);
    const packed = (this.features & Feature.RING_PACKED) !== 0n;
    const areas = {
      descriptors: this.allocate(16 * size),
      driver: this.allocate(packed ? 4 : 6 + 2 * size, 4),
      device: this.allocate(packed ? 4 : 6 + 8 * size, 4),
    };
    for (const gpa of Object.values(areas)) this.memory.fill(0, gpa, gpa + 4);
    for (const [offset, gpa] of [
      [0x20, areas.descriptors],
      [0x28, areas.driver],
      [0x30, areas.device],
    ] as const) {
      this.setCommon(offset, 4, gpa >>> 0);
      this.setCommon(offset + 4, 4, 0);
    }
    this.setCommon(0x1a, 2, queue + 1);
    if (this.common(0x1a, 2) === NO_VECTOR) throw new Error(`queue ${queue} has no vector`);
    const ring = this.#addRing(queue, size, areas);
    this.setCommon(0x1c, 2, 1);
    return ring;
  }

  #addRing(queue: number, size: number, areas: RingAreas): DriverRing {
    const options = {
      size,
      eventIndex: (this.features & Feature.EVENT_IDX) !== 0n,
      indirect: (this.features & Feature.INDIRECT_DESC) !== 0n,
    };
    const Ring = this.features & Feature.RING_PACKED ? PackedDriverRing : SplitDriverRing;
    const ring = new Ring(this.view, areas, options, (length, alignment) => this.allocate(length, alignment));
    this.rings[queue] = ring;
    return ring;
  }

  /** Memory with these bytes, for the device to read. */
  give(bytes: Uint8Array | number[]): Buffer {
    const gpa = this.allocate(bytes.length);
    this.memory.set(bytes, gpa);
    return { gpa, length: bytes.length, deviceWrites: false };
  }

  /** Memory for the device to write. */
  room(length: number): Buffer {
    return { gpa: this.allocate(length), length, deviceWrites: true };
  }

  bytes({ gpa, length }: Buffer): Uint8Array {
    return this.memory.slice(gpa, gpa + length);
  }

  /** Adds a chain and rings if the device wants that. */
  send(queue: number, buffers: readonly Buffer[], indirect = false): number {
    const token = this.rings[queue]!.add(buffers, indirect);
    if (token === undefined) throw new Error(`queue ${queue} is full`);
    if (this.rings[queue]!.wantsNotification()) this.ring(queue);
    return token;
  }

  ring(queue: number): void {
    if (this.#isLegacy) this.legacy.write(16, 2, queue);
    else this.registers.write("notify", queue * 4, 2, queue);
  }

  /** Waits for what the device gives back, at least one chain. */
  async used(queue: number): Promise<{ token: number; length: number }[]> {
    for (;;) {
      const found = this.rings[queue]!.take();
      if (found.length > 0) return found;
      const interrupt = this.interrupt();
      if (!this.rings[queue]!.interrupts(true)) await interrupt;
    }
  }

  /** Sends a chain and waits for it; returns the length that the device says it wrote. */
  async request(queue: number, buffers: readonly Buffer[], indirect = false): Promise<number> {
    const token = this.send(queue, buffers, indirect);
    const used = await this.used(queue);
    if (used.length !== 1 || used[0]!.token !== token) throw new Error(`queue ${queue} gave back something else`);
    return used[0]!.length;
  }
}

/** Every combination of ring features that drivers use. */
export const RING_KINDS: { name: string; features: bigint }[] = [];
for (const packed of [0n, Feature.RING_PACKED]) {
  for (const event of [0n, Feature.EVENT_IDX]) {
    const name = `${packed ? "packed" : "split"} rings${event ? " with event index" : ""}`;
    const rest = Feature.RING_PACKED | Feature.EVENT_IDX;
    RING_KINDS.push({ name, features: ~rest | packed | event });
  }
}

/** And those of drivers from before virtio 1. */
export const TRANSITIONAL_KINDS = [
  ...RING_KINDS,
  { name: "the registers from before virtio 1", features: ~(Feature.RING_PACKED | Feature.VERSION_1) },
];
