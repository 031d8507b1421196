/**
 * What a driver does to a device by either kind of registers, in the thread of the vCPU that asks. What takes the I/O thread
 * is left in shared words, and it is woken.
 */

import { Control, NO_VECTOR, SharedRegisters, Status, type VirtioRegistersHandle, Word } from "./shared.ts";

export interface RegisterEvents {
  /** Wakes the I/O thread to look at what the driver set: {@link VirtioTransport.control}. */
  control(): void;
  /** The driver rang for a queue, and no doorbell caught it. */
  notify(queue: number): void;
  /** The interrupt pin goes down. */
  lowerLine(): void;
}

export class DriverSide {
  protected readonly handle: VirtioRegistersHandle;
  protected readonly shared: SharedRegisters;
  protected readonly events: RegisterEvents;

  constructor(handle: VirtioRegistersHandle, events: RegisterEvents) {
    this.handle = handle;
    this.shared = new SharedRegisters(handle);
    this.events = events;
  }

  protected reset(): void {
    if (this.shared.get(Word.STATUS) & Status.DRIVER_OK) {
      // 4.1.4.3.1: the status reads 0 when the device has stopped.
      this.shared.set(Word.RESETTING, 1);
      this.leave(Control.STATUS);
    } else {
      this.shared.reset();
    }
    this.events.lowerLine();
  }

  /**
   * Only bits that the driver owns are added: the I/O thread may set NEEDS_RESET meanwhile. DRIVER_OK starts the device.
   */
  protected addStatus(bits: number): void {
    const before = Atomics.or(this.shared.words, Word.STATUS, bits);
    if (bits & ~before & Status.DRIVER_OK) this.leave(Control.STATUS);
  }

  /** 4.1.5.1.2.1: a vector that does not exist reads back as none. */
  protected vector(value: number): number {
    return value < this.handle.vectors ? value : NO_VECTOR;
  }

  /** The selected queue; undefined for one that does not exist. */
  protected selected(): number | undefined {
    const queue = this.shared.get(Word.QUEUE_SELECT);
    return queue < this.handle.queueSizes.length ? queue : undefined;
  }

  protected notify(queue: number): void {
    if (queue < this.handle.queueSizes.length) this.events.notify(queue);
  }

  protected writeConfig(offset: number, size: number, value: number): void {
    const [from, to] = this.handle.writableConfig;
    if (offset >= to || offset + size <= from) return;
    for (let byte = 0; byte < size; byte++) this.shared.writeConfigByte(offset + byte, value >>> (byte * 8));
    this.leave(Control.CONFIG);
  }

  /** Reading acknowledges (4.1.4.5). The line goes down first: one that is raised in between stays up. */
  protected takeIsr(): number {
    this.events.lowerLine();
    return Atomics.exchange(this.shared.words, Word.ISR, 0);
  }

  protected leave(what: number): void {
    Atomics.or(this.shared.words, Word.CONTROL, what);
    this.events.control();
  }
}

/** Fields are accessed in their own widths. Nobody should do otherwise, but whoever does gets the bytes. */
export function readFields(
  offset: number,
  size: number,
  { widths, end }: { readonly widths: ReadonlyMap<number, number>; readonly end: number },
  field: (offset: number) => number,
): number {
  if (widths.get(offset) === size) return field(offset) >>> 0;
  let value = 0;
  for (let at = offset + size - 1; at >= offset; at--) {
    let byte = 0;
    if (at < end) {
      let start = at;
      while (!widths.has(start)) start -= 1;
      byte = (field(start) >>> ((at - start) * 8)) & 0xff;
    }
    value = value * 256 + byte;
  }
  return value;
}
