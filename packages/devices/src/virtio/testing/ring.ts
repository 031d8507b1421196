/** The driver's half of both rings, as the specification tells drivers to do it (virtio 1.2, 2.7.13 and 2.8.21). */

export interface Buffer {
  gpa: number;
  length: number;
  deviceWrites: boolean;
}

export interface Used {
  /** What {@link DriverRing.add} gave. */
  token: number;
  length: number;
}

export interface RingOptions {
  size: number;
  eventIndex: boolean;
  indirect: boolean;
}

export interface RingAreas {
  descriptors: number;
  driver: number;
  device: number;
}

/** Takes memory for a table, aligned. */
export type Allocate = (length: number, alignment: number) => number;

export abstract class DriverRing {
  readonly areas: RingAreas;
  protected readonly memory: DataView;
  protected readonly options: RingOptions;
  protected readonly allocate: Allocate;
  protected free: number;

  constructor(memory: DataView, areas: RingAreas, options: RingOptions, allocate: Allocate) {
    this.memory = memory;
    this.areas = areas;
    this.options = options;
    this.allocate = allocate;
    this.free = options.size;
  }

  /** Makes a chain available; undefined when the ring is full. */
  add(buffers: readonly Buffer[], indirect = false): number | undefined {
    const slots = indirect && this.options.indirect ? 1 : buffers.length;
    if (slots > this.free) return undefined;
    this.free -= slots;
    return slots === buffers.length && !indirect ? this.direct(buffers) : this.indirect(this.table(buffers));
  }

  protected abstract direct(buffers: readonly Buffer[]): number;
  protected abstract indirect(table: Buffer): number;
  protected abstract table(buffers: readonly Buffer[]): Buffer;
  /** Whether the device wants to be told of what was added since the last time. */
  abstract wantsNotification(): boolean;
  /** What the device has given back. */
  abstract take(): Used[];
  /** Asks for an interrupt at the next used chain, or for none; true when something is there already. */
  abstract interrupts(wanted: boolean): boolean;

  protected describe(at: number, { gpa, length }: Buffer): void {
    this.memory.setBigUint64(at, BigInt(gpa), true);
    this.memory.setUint32(at + 8, length, true);
  }
}

export class SplitDriverRing extends DriverRing {
  readonly #freeList: number[];
  readonly #chains = new Map<number, number[]>();
  #available = 0;
  #told = 0;
  #seen = 0;

  constructor(memory: DataView, areas: RingAreas, options: RingOptions, allocate: Allocate) {
    super(memory, areas, options, allocate);
    this.#freeList = Array.from({ length: options.size }, (_, index) => index);
  }

  protected direct(buffers: readonly Buffer[]): number {
    const slots = buffers.map(() => this.#freeList.shift()!);
    for (const [index, buffer] of buffers.entries()) {
      const at = this.areas.descriptors + slots[index]! * 16;
      const next = slots[index + 1];
      this.describe(at, buffer);
      this.memory.setUint16(at + 12, (buffer.deviceWrites ? 2 : 0) | (next === undefined ? 0 : 1), true);
      this.memory.setUint16(at + 14, next ?? 0, true);
    }
    return this.#expose(slots);
  }

  protected indirect(table: Buffer): number {
    const slot = this.#freeList.shift()!;
    const at = this.areas.descriptors + slot * 16;
    this.describe(at, table);
    this.memory.setUint16(at + 12, 4, true);
    return this.#expose([slot]);
  }

  protected table(buffers: readonly Buffer[]): Buffer {
    const gpa = this.allocate(buffers.length * 16, 16);
    for (const [index, buffer] of buffers.entries()) {
      this.describe(gpa + index * 16, buffer);
      const last = index === buffers.length - 1;
      this.memory.setUint16(gpa + index * 16 + 12, (buffer.deviceWrites ? 2 : 0) | (last ? 0 : 1), true);
      this.memory.setUint16(gpa + index * 16 + 14, last ? 0 : index + 1, true);
    }
    return { gpa, length: buffers.length * 16, deviceWrites: false };
  }

  #expose(slots: number[]): number {
    const head = slots[0]!;
    this.#chains.set(head, slots);
    const { size } = this.options;
    this.memory.setUint16(this.areas.driver + 4 + (this.#available % size) * 2, head, true);
    this.#available = (this.#available + 1) & 0xffff;
    this.memory.setUint16(this.areas.driver + 2, this.#available, true);
    return head;
  }

  wantsNotification(): boolean {
    const old = this.#told;
    this.#told = this.#available;
    if (!this.options.eventIndex) return this.memory.getUint16(this.areas.device, true) === 0;
    const event = this.memory.getUint16(this.areas.device + 4 + 8 * this.options.size, true);
    return ((this.#available - event - 1) & 0xffff) < ((this.#available - old) & 0xffff);
  }

  take(): Used[] {
    const found: Used[] = [];
    while (this.#seen !== this.memory.getUint16(this.areas.device + 2, true)) {
      const at = this.areas.device + 4 + (this.#seen % this.options.size) * 8;
      const token = this.memory.getUint32(at, true);
      const slots = this.#chains.get(token);
      if (slots === undefined) throw new Error(`the device used ${token}, which it did not have`);
      this.#chains.delete(token);
      this.#freeList.push(...slots);
      this.free += slots.length;
      found.push({ token, length: this.memory.getUint32(at + 4, true) });
      this.#seen = (this.#seen + 1) & 0xffff;
    }
    return found;
  }

  interrupts(wanted: boolean): boolean {
    const { driver } = this.areas;
    if (this.options.eventIndex) {
      const event = wanted ? this.#seen : this.#seen - 1;
      this.memory.setUint16(driver + 4 + 2 * this.options.size, event & 0xffff, true);
    } else {
      this.memory.setUint16(driver, wanted ? 0 : 1, true);
    }
    return this.memory.getUint16(this.areas.device + 2, true) !== this.#seen;
  }
}

const AVAIL = 1 << 7;
const USED = 1 << 15;

export class PackedDriverRing extends DriverRing {
  #next = 0;
  #wrap = true;
  #told = 0;
  #seen = 0;
  #seenWrap = true;
  readonly #ids: number[];
  readonly #slots = new Map<number, number>();

  constructor(memory: DataView, areas: RingAreas, options: RingOptions, allocate: Allocate) {
    super(memory, areas, options, allocate);
    this.#ids = Array.from({ length: options.size }, (_, index) => index);
    this.interrupts(true);
  }

  protected direct(buffers: readonly Buffer[]): number {
    return this.#expose(buffers.map((buffer) => ({ ...buffer, flags: buffer.deviceWrites ? 2 : 0 })));
  }

  protected indirect(table: Buffer): number {
    return this.#expose([{ ...table, flags: 4 }]);
  }

  protected table(buffers: readonly Buffer[]): Buffer {
    const gpa = this.allocate(buffers.length * 16, 16);
    for (const [index, buffer] of buffers.entries()) {
      this.describe(gpa + index * 16, buffer);
      this.memory.setUint16(gpa + index * 16 + 14, buffer.deviceWrites ? 2 : 0, true);
    }
    return { gpa, length: buffers.length * 16, deviceWrites: false };
  }

  #expose(descriptors: (Buffer & { flags: number })[]): number {
    const id = this.#ids.shift()!;
    this.#slots.set(id, descriptors.length);
    let first: (() => void) | undefined;
    for (const [index, descriptor] of descriptors.entries()) {
      const at = this.areas.descriptors + this.#next * 16;
      const more = index < descriptors.length - 1 ? 1 : 0;
      const flags = descriptor.flags | more | (this.#wrap ? AVAIL : USED);
      this.describe(at, descriptor);
      this.memory.setUint16(at + 12, id, true);
      // 2.8.21.1: the first one's flags make the whole chain available.
      if (index === 0) first = () => this.memory.setUint16(at + 14, flags, true);
      else this.memory.setUint16(at + 14, flags, true);
      this.#next += 1;
      if (this.#next === this.options.size) {
        this.#next = 0;
        this.#wrap = !this.#wrap;
      }
    }
    first?.();
    this.#told += descriptors.length;
    return id;
  }

  wantsNotification(): boolean {
    const added = this.#told;
    this.#told = 0;
    const event = this.memory.getUint32(this.areas.device, true);
    const kind = event >>> 16;
    if (kind !== 2) return kind === 0;
    const wrap = (event & 0x8000) !== 0;
    const offset = (event & 0x7fff) - (wrap === this.#wrap ? 0 : this.options.size);
    return ((this.#next - offset - 1) & 0xffff) < (added & 0xffff);
  }

  take(): Used[] {
    const found: Used[] = [];
    while (this.#isUsed()) {
      const at = this.areas.descriptors + this.#seen * 16;
      const token = this.memory.getUint16(at + 12, true);
      const slots = this.#slots.get(token);
      if (slots === undefined) throw new Error(`the device used ${token}, which it did not have`);
      this.#slots.delete(token);
      this.#ids.push(token);
      this.free += slots;
      found.push({ token, length: this.memory.getUint32(at + 8, true) });
      this.#seen += slots;
      if (this.#seen >= this.options.size) {
        this.#seen -= this.options.size;
        this.#seenWrap = !this.#seenWrap;
      }
    }
    return found;
  }

  interrupts(wanted: boolean): boolean {
    const kind = wanted ? (this.options.eventIndex ? 2 : 0) : 1;
    this.memory.setUint16(this.areas.driver, this.#seen | (this.#seenWrap ? 0x8000 : 0), true);
    this.memory.setUint16(this.areas.driver + 2, kind, true);
    return this.#isUsed();
  }

  #isUsed(): boolean {
    const flags = this.memory.getUint16(this.areas.descriptors + this.#seen * 16 + 14, true);
    const used = (flags & USED) !== 0;
    return used === ((flags & AVAIL) !== 0) && used === this.#seenWrap;
  }
}
