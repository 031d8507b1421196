/** The split ring (virtio 1.2, 2.7). */

import type { GuestRam } from "../../ram.ts";
import { Chain } from "./chain.ts";
import { Descriptor, type QueueEvents, type QueueLayout, type QueuePosition, Virtqueue, wantsEvent } from "./queue.ts";

/** Both rings begin with u16 flags, u16 idx (2.7.6, 2.7.8); elements follow, then a u16 event index. */
const FLAGS = 0;
const INDEX = 1;
/** 2.7.6: VIRTQ_AVAIL_F_NO_INTERRUPT; 2.7.8: VIRTQ_USED_F_NO_NOTIFY. */
const SILENT = 1;

export interface SplitAreas {
  /** u32 address low, u32 address high, u32 length, u16 flags, u16 next. */
  descriptors: Uint32Array;
  available: Uint16Array;
  /** The used ring by halves, and its elements: u32 id, u32 length. */
  used: Uint16Array;
  elements: Uint32Array;
}

/** The rings as views of guest memory, or what is wrong with where they are. */
export function splitAreas(layout: QueueLayout, ram: GuestRam): SplitAreas | string {
  const { size, descriptors, driver, device } = layout;
  if (descriptors % 16 !== 0 || driver % 2 !== 0 || device % 4 !== 0) return "rings that are not aligned";
  const table = ram.slice(descriptors, 16 * size);
  const available = ram.slice(driver, 6 + 2 * size);
  const used = ram.slice(device, 6 + 8 * size);
  if (table === undefined || available === undefined || used === undefined) return "rings that are not in RAM";
  return {
    descriptors: new Uint32Array(table.buffer, table.byteOffset, 4 * size),
    available: new Uint16Array(available.buffer, available.byteOffset, 3 + size),
    used: new Uint16Array(used.buffer, used.byteOffset, 3 + 4 * size),
    elements: new Uint32Array(used.buffer, used.byteOffset + 4, 2 * size),
  };
}

export class SplitQueue extends Virtqueue {
  readonly #areas: SplitAreas;
  readonly #mask: number;
  /** Free-running counts modulo 2^16, like the rings' own. */
  #available: number;
  #used: number;
  #shown: number;

  constructor(layout: QueueLayout, areas: SplitAreas, ram: GuestRam, events: QueueEvents, position?: QueuePosition) {
    super(layout, ram, events);
    this.#areas = areas;
    this.#mask = layout.size - 1;
    this.#available = position?.available ?? 0;
    this.#used = position?.used ?? 0;
    this.#shown = this.#used;
  }

  get position(): QueuePosition {
    return { available: this.#available, used: this.#used };
  }

  protected take(chain: Chain): boolean | string {
    const { available } = this.#areas;
    const pending = (Atomics.load(available, INDEX) - this.#available) & 0xffff;
    if (pending === 0) return false;
    if (pending > this.size) return `an available index ${pending} ahead in a ring of ${this.size}`;
    const wrong = this.#fill(chain, available[2 + (this.#available & this.#mask)]!);
    if (wrong !== undefined) return wrong;
    this.#available = (this.#available + 1) & 0xffff;
    return true;
  }

  /** Adds the descriptors from `index` on; returns what is wrong with them. */
  #fill(chain: Chain, index: number): string | undefined {
    const { descriptors } = this.#areas;
    chain.id = index;
    chain.slots = 1;
    for (let seen = 0; seen < this.size; seen++) {
      if (index >= this.size) return `descriptor ${index} in a ring of ${this.size}`;
      const at = index * 4;
      const gpa = descriptors[at]! + descriptors[at + 1]! * 2 ** 32;
      const length = descriptors[at + 2]!;
      const flags = descriptors[at + 3]!;
      const indirect = (flags & Descriptor.INDIRECT) !== 0;
      if (indirect && flags & Descriptor.NEXT) return "an indirect descriptor with a next one";
      const wrong = indirect
        ? this.addIndirect(chain, gpa, length)
        : chain.add(this.ram, gpa, length, (flags & Descriptor.WRITE) !== 0);
      if (wrong !== undefined) return wrong;
      if (!(flags & Descriptor.NEXT)) return undefined;
      index = flags >>> 16;
    }
    return "a loop of descriptors";
  }

  /** Another process has served the ring, which goes on here: at an index of the available ring, or behind what was used. */
  moveTo(available?: number): void {
    this.#used = Atomics.load(this.#areas.used, INDEX);
    this.#shown = this.#used;
    this.#available = available ?? this.#used;
  }

  /**
   * Another process that serves the ring has used chains and rings for that: what it wrote is told, and the driver. Chains
   * whose descriptors the driver has changed already are told as they are now; it has seen what was in them.
   */
  usedOutside(): void {
    const { used, elements } = this.#areas;
    const now = Atomics.load(used, INDEX);
    const count = Math.min((now - this.#used) & 0xffff, this.size);
    this.#used = (now - count) & 0xffff;
    this.#markUsed(this.#used & this.#mask, count);
    const chain = new Chain();
    for (let left = count; left > 0; left--) {
      const at = (this.#used & this.#mask) * 2;
      chain.clear();
      if (this.#fill(chain, elements[at]!) === undefined) chain.markWritten(this.ram, elements[at + 1]!);
      this.#used = (this.#used + 1) & 0xffff;
    }
    this.#shown = this.#used;
    this.interrupt();
  }

  protected untake(): void {
    this.#available = (this.#available - 1) & 0xffff;
  }

  protected give(chain: Chain, written: number): void {
    const at = (this.#used & this.#mask) * 2;
    this.#areas.elements[at] = chain.id;
    this.#areas.elements[at + 1] = written;
    this.#used = (this.#used + 1) & 0xffff;
  }

  protected show(): boolean {
    const count = (this.#used - this.#shown) & 0xffff;
    if (count === 0) return false;
    const { available, used } = this.#areas;
    const old = this.#shown;
    this.#shown = this.#used;
    // Sequentially consistent, as the load below must not pass it (2.7.7.1).
    Atomics.store(used, INDEX, this.#used);
    this.#markUsed(old & this.#mask, count);
    if (this.layout.eventIndex) return wantsEvent(Atomics.load(available, 2 + this.size), this.#used, old);
    return (Atomics.load(available, FLAGS) & SILENT) === 0;
  }

  protected suppress(silent: boolean): boolean {
    const { available, used } = this.#areas;
    const { device } = this.layout;
    if (this.layout.eventIndex) {
      // An event index that stays behind is silence.
      if (silent) return true;
      Atomics.store(used, 2 + 4 * this.size, this.#available);
      this.ram.written(device + 4 + 8 * this.size, 2);
    } else {
      Atomics.store(used, FLAGS, silent ? SILENT : 0);
      this.ram.written(device, 2);
    }
    return Atomics.load(available, INDEX) !== this.#available;
  }

  #markUsed(first: number, count: number): void {
    const { device } = this.layout;
    const straight = Math.min(count, this.size - first);
    this.ram.written(device, 4);
    this.ram.written(device + 4 + 8 * first, 8 * straight);
    if (count > straight) this.ram.written(device + 4, 8 * (count - straight));
  }
}
