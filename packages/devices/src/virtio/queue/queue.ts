/**
 * What the split and the packed ring have in common: chains go out to the device, come back used, and either side tells
 * the other as seldom as it may (virtio 1.2, 2.6).
 *
 * The ring is the guest's memory. A ring that breaks the rules is broken once and for all until the driver resets it:
 * nothing more is taken from it or put into it, and the device is told.
 */

import type { GuestRam } from "../../ram.ts";
import { Chain, MAX_DESCRIPTORS } from "./chain.ts";

/** How the driver has set a queue up. Addresses are guest physical. */
export interface QueueLayout {
  /** Slots; a power of two for a split ring, up to 32768. */
  readonly size: number;
  readonly descriptors: number;
  /** The driver area: available ring, or the driver's event suppression. */
  readonly driver: number;
  /** The device area: used ring, or the device's event suppression. */
  readonly device: number;
  /** Negotiated: VIRTIO_F_RING_PACKED, VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC. */
  readonly packed: boolean;
  readonly eventIndex: boolean;
  readonly indirect: boolean;
}

/** Where both sides are; in a packed ring bit 15 is the wrap counter, as in its event suppression (2.8.10). */
export interface QueuePosition {
  readonly available: number;
  readonly used: number;
}

export interface QueueEvents {
  /** The driver wants to know that chains were used. */
  interrupt(): void;
  /** The driver broke the ring's rules. */
  broken(reason: string): void;
  /** There is more than was served: come again when others have had their turn. */
  later(): void;
}

/** Descriptor flags (2.7.5, 2.8.1). */
export const Descriptor = { NEXT: 1, WRITE: 2, INDIRECT: 4, SIZE: 16 } as const;

export abstract class Virtqueue {
  readonly size: number;
  /** Chains that were taken and not yet given back. */
  inFlight = 0;
  protected readonly ram: GuestRam;
  readonly layout: QueueLayout;
  readonly #events: QueueEvents;
  #usable = true;
  /** Chains to use again. */
  readonly #spare: Chain[] = [];

  constructor(layout: QueueLayout, ram: GuestRam, events: QueueEvents) {
    this.size = layout.size;
    this.layout = layout;
    this.ram = ram;
    this.#events = events;
  }

  /** The next chain, or undefined: there is none, or the ring is broken. */
  pop(): Chain | undefined {
    if (!this.#usable || this.inFlight >= this.size) return undefined;
    const chain = this.#spare.pop() ?? new Chain();
    const found = this.take(chain);
    if (found === true) {
      this.inFlight += 1;
      return chain;
    }
    this.#recycle(chain);
    if (found !== false) this.break(found);
    return undefined;
  }

  /** Puts back what {@link pop} just gave; the next pop gives it again. */
  unpop(chain: Chain): void {
    if (!this.#usable) return;
    this.untake(chain);
    this.inFlight -= 1;
    this.#recycle(chain);
  }

  /** Gives a chain back; `written` bytes from its writable start on are the device's. Seen with {@link publish}. */
  push(chain: Chain, written: number): void {
    if (!this.#usable) return;
    chain.markWritten(this.ram, written);
    this.give(chain, written);
    this.inFlight -= 1;
    this.#recycle(chain);
  }

  /** Shows the driver what was pushed and interrupts it if it wants that. */
  publish(): void {
    if (this.#usable && this.show()) this.#events.interrupt();
  }

  /**
   * Hands each available chain to `handle`, which pushes it now or later. `handle` may say false: it cannot take the
   * chain now, and calls this again when it can; or "enough": it has taken it, and what ends by itself shall end before there are
   * more. A driver that adds for ever does not keep the thread for ever.
   */
  // biome-ignore lint/suspicious/noConfusingVoidType: most handlers have nothing to say
  serve(handle: (chain: Chain) => boolean | "enough" | void): void {
    let budget = Math.max(this.size, 64);
    do {
      this.setNotifications(false);
      for (let chain = this.pop(); chain !== undefined; chain = this.pop()) {
        const taken = handle(chain);
        if (taken === false) {
          this.unpop(chain);
          this.publish();
          return;
        }
        if (--budget === 0 || taken === "enough") {
          this.publish();
          this.#events.later();
          return;
        }
      }
      this.publish();
    } while (this.setNotifications(true));
  }

  /** Whether the driver shall ring for what it adds; true when there is something already. */
  setNotifications(wanted: boolean): boolean {
    if (!this.#usable) return false;
    const more = this.suppress(!wanted);
    return more && wanted && this.inFlight < this.size;
  }

  /** Interrupts the driver, who was asked already whether it wants that. */
  protected interrupt(): void {
    if (this.#usable) this.#events.interrupt();
  }

  /** Where the ring is, for saving: with nothing in flight and everything published. */
  abstract get position(): QueuePosition;

  /** Ends every use of guest memory. What is still in flight goes nowhere. */
  close(): void {
    this.#usable = false;
  }

  get usable(): boolean {
    return this.#usable;
  }

  /** The driver broke the rules: of the ring, or of the device's own requests. */
  break(reason: string): void {
    if (!this.#usable) return;
    this.#usable = false;
    this.#events.broken(reason);
  }

  /** Fills the chain with the next available one: true, false for none, or what is wrong with it. */
  protected abstract take(chain: Chain): boolean | string;
  protected abstract untake(chain: Chain): void;
  /** Writes a used element, not yet visible. */
  protected abstract give(chain: Chain, written: number): void;
  /** Makes what was given visible; says whether the driver wants an interrupt for it. */
  protected abstract show(): boolean;
  /** Says whether the driver need not ring; returns whether something is available. */
  protected abstract suppress(silent: boolean): boolean;

  #recycle(chain: Chain): void {
    chain.clear();
    if (this.#spare.length < this.size) this.#spare.push(chain);
  }

  /** Adds what an indirect table holds (2.7.5.3, 2.8.7); returns what is wrong with it. */
  protected addIndirect(chain: Chain, gpa: number, length: number): string | undefined {
    if (!this.layout.indirect) return "an indirect descriptor without VIRTIO_F_INDIRECT_DESC";
    if (length === 0 || length % Descriptor.SIZE !== 0 || length > MAX_DESCRIPTORS * Descriptor.SIZE) {
      return `an indirect table of ${length} bytes`;
    }
    const bytes = this.ram.slice(gpa, length);
    if (bytes === undefined) return `an indirect table at 0x${gpa.toString(16)}, which is not RAM`;
    // Tables lie wherever the driver likes: typed arrays would want them aligned.
    const table = new DataView(bytes.buffer, bytes.byteOffset, length);
    const count = length / Descriptor.SIZE;
    let index = 0;
    for (let seen = 0; seen < count; seen++) {
      const at = index * Descriptor.SIZE;
      const address = table.getUint32(at, true) + table.getUint32(at + 4, true) * 2 ** 32;
      const flags = table.getUint16(at + (this.layout.packed ? 14 : 12), true);
      if (flags & Descriptor.INDIRECT) return "an indirect descriptor in an indirect table";
      const wrong = chain.add(this.ram, address, table.getUint32(at + 8, true), (flags & Descriptor.WRITE) !== 0);
      if (wrong !== undefined) return wrong;
      if (this.layout.packed) {
        // 2.8.7: the table is used as a whole, in order.
        index += 1;
        continue;
      }
      if (!(flags & Descriptor.NEXT)) return undefined;
      index = table.getUint16(at + 14, true);
      if (index >= count) return `descriptor ${index} of an indirect table of ${count}`;
    }
    return this.layout.packed ? undefined : "a loop in an indirect table";
  }
}

/** 2.7.7.1: whether an event at `event` lies among those from `old` up to, not including, `now`, all modulo 2^16. */
export function wantsEvent(event: number, now: number, old: number): boolean {
  return ((now - event - 1) & 0xffff) < ((now - old) & 0xffff);
}
