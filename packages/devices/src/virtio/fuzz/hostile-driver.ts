/**
 * A driver that means harm, or is badly broken: rings that are almost right, wild addresses and lengths, loops, registers
 * written at random, and whatever lies in between. What it does follows from its random numbers alone.
 */

import { MappedRam } from "../../ram.ts";
import { Feature, type VirtioDevice } from "../device.ts";
import type { Random } from "../testing/random.ts";
import { LegacyRegisters } from "../transport/legacy-registers.ts";
import { type VirtioRegion, VirtioRegisters } from "../transport/registers.ts";
import { VirtioTransport } from "../transport/transport.ts";

/** Two pieces of RAM; before, between and behind them lie bytes of the host that nobody may touch. */
const PIECE = 0x10000;
const GUARD = 0x8000;
const HIGH = 0x100000;
const GUARD_BYTE = 0xa5;
const BUFFER = new SharedArrayBuffer(3 * GUARD + 2 * PIECE);
const LOW_OFFSET = GUARD;
const HIGH_OFFSET = 2 * GUARD + PIECE;
const PAGE = 0x1000;

/** Where a queue's three areas are: room for 64 slots each. */
const AREA = 0x800;
/** Those of a queue from before virtio 1, in pages: room for 256 slots. */
const LEGACY_PAGES = 3;
/** Where requests are put together. */
const SCRATCH = 0xc000;

/** A request that a device might take: what it reads, and the room it has. */
export interface Request {
  readonly queue: number;
  readonly out: Uint8Array;
  readonly room: number;
}

interface Ring {
  size: number;
  descriptors: number;
  driver: number;
  available: number;
  wrap: boolean;
}

export class HostileDriver {
  readonly transport: VirtioTransport;
  readonly registers: VirtioRegisters;
  readonly legacy: LegacyRegisters;
  readonly #random: Random;
  readonly #memory = new Uint8Array(BUFFER, LOW_OFFSET, PIECE);
  readonly #view = new DataView(BUFFER, LOW_OFFSET, PIECE);
  #features = 0n;
  #rings: Ring[] = [];
  /** Chains that were made available since the start, and failures that it has led to. */
  requests = 0;
  failures = 0;
  /** Interrupts: the device has done something for it. */
  interrupts = 0;

  constructor(device: VirtioDevice, random: Random) {
    this.#random = random;
    new Uint8Array(BUFFER).fill(GUARD_BYTE);
    this.#memory.fill(0);
    const ram = new MappedRam(BUFFER, [
      { gpa: 0, sizeBytes: PIECE, offset: LOW_OFFSET },
      { gpa: HIGH, sizeBytes: PIECE, offset: HIGH_OFFSET },
    ]);
    this.transport = new VirtioTransport(device, {
      ram,
      interrupts: {
        messages: true,
        message: () => {
          this.interrupts += 1;
        },
        raiseLine: () => {},
        lowerLine: () => {},
      },
      onFailure: () => {
        this.failures += 1;
      },
    });
    const events = {
      control: () => this.transport.control(),
      notify: (queue: number) => this.transport.notified(queue),
      lowerLine: () => {},
    };
    this.registers = new VirtioRegisters(this.transport.handle, events);
    this.legacy = new LegacyRegisters(this.transport.handle, events, { messages: true, wait: () => {} });
  }

  /** The host's bytes around the guest's memory are as they were. */
  static guardsAreIntact(): boolean {
    const bytes = new Uint8Array(BUFFER);
    const guards = [0, LOW_OFFSET + PIECE, HIGH_OFFSET + PIECE].map((from) => bytes.subarray(from, from + GUARD));
    return guards.every((guard) => guard.every((byte) => byte === GUARD_BYTE));
  }

  /** Starts the device as a good driver would, with some of its features and some of its queues. */
  async start(): Promise<void> {
    const random = this.#random;
    const set = (offset: number, size: number, value: number) => this.registers.write("common", offset, size, value);
    set(0x14, 1, 0);
    // A reset of a started device takes the I/O thread's turn.
    while (this.registers.read("common", 0x14, 1) !== 0) await new Promise((resolve) => setImmediate(resolve));
    const { features, queueSizes } = this.transport.handle;
    let wanted = features & ~(random.chance(0.5) ? Feature.RING_PACKED : 0n);
    for (let bit = 0n; bit < 40n; bit++) if (random.chance(0.1)) wanted &= ~(1n << bit);
    if (random.chance(0.2)) return this.#startLegacy(wanted);
    this.#features = wanted | Feature.VERSION_1;
    set(0x14, 1, 3);
    for (const select of [0, 1]) {
      set(8, 4, select);
      set(12, 4, Number((this.#features >> BigInt(32 * select)) & 0xffffffffn));
    }
    set(0x14, 1, 11);
    this.#memory.fill(0);
    this.#rings = queueSizes.map((most, queue) => {
      const size = Math.min(most, random.pick([1, 2, 4, 16, 64]));
      set(0x16, 2, queue);
      set(0x18, 2, size);
      for (const [index, offset] of [0x20, 0x28, 0x30].entries()) set(offset, 4, this.#area(queue, index));
      set(0x1a, 2, queue + 1);
      if (random.chance(0.95)) set(0x1c, 2, 1);
      return { size, descriptors: this.#area(queue, 0), driver: this.#area(queue, 1), available: 0, wrap: true };
    });
    set(0x14, 1, 15);
  }

  /** The same as a driver from before virtio 1. */
  #startLegacy(wanted: bigint): void {
    const { legacy } = this;
    const random = this.#random;
    this.#features = wanted & 0xffffffffn;
    legacy.write(18, 1, 3);
    legacy.write(4, 4, Number(this.#features));
    this.#memory.fill(0);
    this.#rings = this.transport.handle.queueSizes.map((_, queue) => {
      legacy.write(14, 2, queue);
      const size = legacy.read(12, 2);
      // Three of them below the scratch; more share pages, and long ones reach into it.
      const descriptors = PAGE * (1 + (queue % 3) * LEGACY_PAGES);
      if (random.chance(0.95)) legacy.write(8, 4, descriptors / PAGE);
      legacy.write(22, 2, queue + 1);
      return { size, descriptors, driver: descriptors + 16 * size, available: 0, wrap: true };
    });
    if (random.chance(0.9)) legacy.write(18, 1, 7);
  }

  get needsReset(): boolean {
    return (this.registers.read("common", 0x14, 1) & 64) !== 0;
  }

  /** Many queues share areas: that too is something that drivers get wrong. */
  #area(queue: number, index: number): number {
    return ((queue % 8) * 3 + index) * AREA;
  }

  /** Makes a request available, as a whole or cut to pieces, mostly right. */
  request({ queue, out, room }: Request): void {
    const random = this.#random;
    const ring = this.#rings[queue];
    if (ring === undefined) return;
    this.requests += 1;
    let at = SCRATCH + random.below(0x1000);
    const pieces: { gpa: number; length: number; flags: number }[] = [];
    for (let done = 0; done < out.length; ) {
      const length = random.chance(0.7) ? out.length - done : 1 + random.below(out.length - done);
      this.#memory.set(out.subarray(done, done + length).subarray(0, Math.max(0, PIECE - at)), at);
      pieces.push({ gpa: at, length, flags: 0 });
      [at, done] = [at + length, done + length];
    }
    for (let left = room; left > 0; ) {
      const length = random.chance(0.7) ? left : 1 + random.below(left);
      const gpa = random.chance(0.5) ? HIGH + random.below(PIECE - 0x2000) : SCRATCH + 0x1000 + random.below(0x1000);
      pieces.push({ gpa, length, flags: 2 });
      left -= length;
    }
    for (const piece of pieces) if (random.chance(0.02)) this.#spoil(piece);
    if (pieces.length > 1 && random.chance(0.01)) pieces.reverse();
    if (pieces.length > ring.size || random.chance(0.2)) this.#indirect(ring, pieces);
    else this.#direct(ring, pieces);
    if (random.chance(0.9)) this.registers.write("notify", queue * 4, 2, queue);
  }

  #spoil(piece: { gpa: number; length: number; flags: number }): void {
    const random = this.#random;
    switch (random.below(4)) {
      case 0:
        piece.gpa = random.pick([PIECE - 1, HIGH - 1, HIGH + PIECE - 8, 2 ** 32, 2 ** 52, random.u32()]);
        break;
      case 1:
        piece.length = random.pick([0, 1, 0xffffffff, 0x80000000, PIECE, random.u32()]);
        break;
      case 2:
        piece.flags ^= 1 << random.below(16);
        break;
      default:
        piece.flags = random.below(0x10000);
    }
  }

  #write(at: number, { gpa, length }: { gpa: number; length: number }): void {
    this.#view.setUint32(at, gpa, true);
    this.#view.setUint32(at + 4, gpa / 2 ** 32, true);
    this.#view.setUint32(at + 8, length, true);
  }

  #direct(ring: Ring, pieces: { gpa: number; length: number; flags: number }[]): void {
    const random = this.#random;
    const table = ring.descriptors;
    if (this.#features & Feature.RING_PACKED) {
      for (const [index, piece] of pieces.entries()) {
        const at = table + ring.available * 16;
        this.#write(at, piece);
        this.#view.setUint16(at + 12, random.below(ring.size), true);
        const more = index < pieces.length - 1 ? 1 : 0;
        this.#view.setUint16(at + 14, piece.flags | more | (ring.wrap ? 0x80 : 0x8000), true);
        ring.available += 1;
        if (ring.available < ring.size) continue;
        ring.available = 0;
        ring.wrap = !ring.wrap;
      }
      return;
    }
    const first = random.below(ring.size);
    for (const [index, piece] of pieces.entries()) {
      const slot = (first + index) % ring.size;
      this.#write(table + slot * 16, piece);
      this.#view.setUint16(table + slot * 16 + 12, piece.flags | (index < pieces.length - 1 ? 1 : 0), true);
      this.#view.setUint16(table + slot * 16 + 14, random.chance(0.01) ? random.u32() : (slot + 1) % ring.size, true);
    }
    const { driver } = ring;
    this.#view.setUint16(
      driver + 4 + (ring.available % ring.size) * 2,
      random.chance(0.01) ? random.u32() : first,
      true,
    );
    ring.available = (ring.available + 1) & 0xffff;
    this.#view.setUint16(driver + 2, ring.available, true);
  }

  #indirect(ring: Ring, pieces: { gpa: number; length: number; flags: number }[]): void {
    const random = this.#random;
    const table = SCRATCH + 0x2000 + random.below(0x800);
    const packed = (this.#features & Feature.RING_PACKED) !== 0n;
    for (const [index, piece] of pieces.entries()) {
      const at = table + index * 16;
      if (at + 16 > PIECE) break;
      this.#write(at, piece);
      const last = index === pieces.length - 1;
      this.#view.setUint16(at + (packed ? 14 : 12), piece.flags | (last ? 0 : 1), true);
      this.#view.setUint16(at + (packed ? 12 : 14), random.chance(0.01) ? random.u32() : index + 1, true);
    }
    const length = random.chance(0.98) ? pieces.length * 16 : random.u32();
    this.#direct(ring, [{ gpa: table, length, flags: random.chance(0.99) ? 4 : 5 }]);
  }

  /** Anything at all. */
  scribble(): void {
    const random = this.#random;
    const bytes = 1 + random.below(16);
    const at = random.below(random.chance(0.7) ? 24 * AREA : PIECE - 16);
    for (let index = 0; index < bytes; index++) this.#memory[at + index] = random.u32();
  }

  /** Registers, known or not, of any width. */
  pokeRegisters(): void {
    const random = this.#random;
    const region: VirtioRegion = random.pick(["common", "common", "common", "notify", "isr", "device", "device"]);
    const size = random.pick([1, 2, 4]);
    const offset = random.chance(0.9) ? random.below(0x40) : random.u32();
    const value = (random.chance(0.5) ? random.below(70) : random.u32()) % 2 ** (8 * size);
    const isRead = random.chance(0.3);
    if (random.chance(0.2)) {
      if (isRead) this.legacy.read(offset, size);
      else this.legacy.write(offset, size, value);
    } else if (isRead) this.registers.read(region, offset, size);
    else this.registers.write(region, offset, size, value);
  }

  ringAnything(): void {
    const queue = this.#random.below(this.#rings.length + 1);
    this.registers.write("notify", queue * 4, 2, queue);
  }
}
