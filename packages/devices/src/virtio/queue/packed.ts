/** The packed ring (virtio 1.2, 2.8): one ring of descriptors, in which both sides overwrite what the other is done with. */

import type { GuestRam } from "../../ram.ts";
import type { Chain } from "./chain.ts";
import { Descriptor, type QueueEvents, type QueueLayout, type QueuePosition, Virtqueue, wantsEvent } from "./queue.ts";

/** A descriptor (2.8.14): u32 address low, u32 address high, u32 length, u16 id, u16 flags; flags here as in that word. */
const AVAILABLE = 1 << 23;
const USED = 1 << 31;
const at = (flag: number) => flag << 16;

/** Event suppression (2.8.14): u16 offset and wrap, u16 flags; as one u32 with the flags above. */
const Event = { ENABLE: 0, DISABLE: 1, DESCRIPTOR: 2 } as const;
const WRAP = 0x8000;

export interface PackedAreas {
  ring: Uint32Array;
  /** One word each. */
  driver: Uint32Array;
  device: Uint32Array;
}

/** The ring as views of guest memory, or what is wrong with where it is. */
export function packedAreas(layout: QueueLayout, ram: GuestRam): PackedAreas | string {
  if (layout.descriptors % 16 !== 0 || layout.driver % 4 !== 0 || layout.device % 4 !== 0) {
    return "a ring that is not aligned";
  }
  const ring = ram.slice(layout.descriptors, 16 * layout.size);
  const driver = ram.slice(layout.driver, 4);
  const device = ram.slice(layout.device, 4);
  if (ring === undefined || driver === undefined || device === undefined) return "a ring that is not in RAM";
  return {
    ring: new Uint32Array(ring.buffer, ring.byteOffset, 4 * layout.size),
    driver: new Uint32Array(driver.buffer, driver.byteOffset, 1),
    device: new Uint32Array(device.buffer, device.byteOffset, 1),
  };
}

export class PackedQueue extends Virtqueue {
  readonly #areas: PackedAreas;
  /** The slot that the driver fills next, and the wrap counter that it then has. */
  #available: number;
  #availableWrap: boolean;
  /** The slot that the device writes next. */
  #used: number;
  #usedWrap: boolean;
  /** Slots that were used since {@link show}. */
  #fresh = 0;
  /** What the first of them will say. The driver looks at it first, so that it sees all of them at once, or none. */
  #first = { slot: 0, flags: 0 };

  constructor(layout: QueueLayout, areas: PackedAreas, ram: GuestRam, events: QueueEvents, position?: QueuePosition) {
    super(layout, ram, events);
    this.#areas = areas;
    const { available, used } = position ?? { available: WRAP, used: WRAP };
    this.#available = (available & ~WRAP) % layout.size;
    this.#availableWrap = (available & WRAP) !== 0;
    this.#used = (used & ~WRAP) % layout.size;
    this.#usedWrap = (used & WRAP) !== 0;
  }

  get position(): QueuePosition {
    return {
      available: this.#available | (this.#availableWrap ? WRAP : 0),
      used: this.#used | (this.#usedWrap ? WRAP : 0),
    };
  }

  protected take(chain: Chain): boolean | string {
    if (!this.#isAvailable()) return false;
    const { ring } = this.#areas;
    let slot = this.#available;
    for (let seen = 1; seen <= this.size; seen++) {
      const word = slot * 4;
      const gpa = ring[word]! + ring[word + 1]! * 2 ** 32;
      const length = ring[word + 2]!;
      const flags = Atomics.load(ring, word + 3);
      const indirect = (flags & at(Descriptor.INDIRECT)) !== 0;
      if (indirect && flags & at(Descriptor.NEXT)) return "an indirect descriptor with a next one";
      const wrong = indirect
        ? this.addIndirect(chain, gpa, length)
        : chain.add(this.ram, gpa, length, (flags & at(Descriptor.WRITE)) !== 0);
      if (wrong !== undefined) return wrong;
      slot = slot + 1 === this.size ? 0 : slot + 1;
      if (!(flags & at(Descriptor.NEXT))) {
        // 2.8.6: the last one carries the buffer's ID.
        chain.id = flags & 0xffff;
        chain.slots = seen;
        this.#availableWrap = this.#availableWrap !== slot <= this.#available;
        this.#available = slot;
        return true;
      }
    }
    return "a loop of descriptors";
  }

  protected untake(chain: Chain): void {
    this.#available -= chain.slots;
    if (this.#available >= 0) return;
    this.#available += this.size;
    this.#availableWrap = !this.#availableWrap;
  }

  protected give(chain: Chain, written: number): void {
    const slot = this.#used;
    const { ring } = this.#areas;
    ring[slot * 4 + 2] = written;
    // 2.8.1: both bits equal the wrap counter. ID and flags go out together, after the length.
    const wrap = this.#usedWrap ? AVAILABLE | USED : 0;
    const flags = (chain.id | wrap | (written > 0 ? at(Descriptor.WRITE) : 0)) >>> 0;
    if (this.#fresh === 0) this.#first = { slot, flags };
    else this.#finish(slot, flags);
    this.#used += chain.slots;
    this.#fresh += chain.slots;
    if (this.#used < this.size) return;
    this.#used -= this.size;
    this.#usedWrap = !this.#usedWrap;
  }

  #finish(slot: number, flags: number): void {
    Atomics.store(this.#areas.ring, slot * 4 + 3, flags);
    this.ram.written(this.layout.descriptors + slot * 16, 16);
  }

  protected show(): boolean {
    const count = this.#fresh;
    if (count === 0) return false;
    this.#fresh = 0;
    this.#finish(this.#first.slot, this.#first.flags);
    const event = Atomics.load(this.#areas.driver, 0);
    const kind = (event >>> 16) & 3;
    if (kind !== Event.DESCRIPTOR || !this.layout.eventIndex) return kind !== Event.DISABLE;
    // An offset of the round before or after this one lies a ring away.
    const sameRound = ((event & WRAP) !== 0) === this.#usedWrap;
    const offset = (event & (WRAP - 1)) - (sameRound ? 0 : this.size);
    return wantsEvent(offset, this.#used, this.#used - count);
  }

  protected suppress(silent: boolean): boolean {
    let event: number = silent ? Event.DISABLE : Event.ENABLE;
    let offset = 0;
    if (!silent && this.layout.eventIndex) {
      event = Event.DESCRIPTOR;
      offset = this.#available | (this.#availableWrap ? WRAP : 0);
    }
    Atomics.store(this.#areas.device, 0, ((event << 16) | offset) >>> 0);
    this.ram.written(this.layout.device, 4);
    return this.#isAvailable();
  }

  /** 2.8.1: available when AVAIL is the wrap counter and USED is not. */
  #isAvailable(): boolean {
    const flags = Atomics.load(this.#areas.ring, this.#available * 4 + 3);
    const available = (flags & AVAILABLE) !== 0;
    return available === this.#availableWrap && available !== ((flags & USED) !== 0);
  }
}
