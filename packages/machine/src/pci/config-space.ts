/**
 * One function's configuration space, in shared memory: what it is, which of its bits may be written, and where its BARs
 * are now. Each thread makes its own over the same memory.
 */

import { BARS, BarFlag, Capability, COMMAND_WRITABLE, Command, Config, MsiField, MsiX, StatusBit } from "./layout.ts";

/** A BAR: a range of registers that the guest places. Sizes are powers of two; memory has at least 4 KiB. */
export interface BarLayout {
  readonly kind: "memory" | "memory64" | "io";
  readonly sizeBytes: number;
}

/** What a function is. */
export interface PciIdentity {
  readonly vendor: number;
  readonly device: number;
  readonly revision: number;
  /** Base class, subclass, interface: 24 bits. */
  readonly classCode: number;
  readonly subsystemVendor: number;
  readonly subsystem: number;
}

export interface FunctionLayout {
  readonly identity: PciIdentity;
  /** By number; a 64-bit one takes two. */
  readonly bars: readonly (BarLayout | undefined)[];
  /** Whether it interrupts by pin A where there are no messages. */
  readonly interruptPin: boolean;
  /** How many messages it has without a table: a power of two, up to 32. */
  readonly msi?: { readonly vectors: 1 | 2 | 4 | 8 | 16 | 32 };
  /** Its MSI-X vectors, and the BAR that the table is in, at its start; the pending bits follow. */
  readonly msix?: { readonly vectors: number; readonly bar: number };
  /** Further capabilities, without the pointer to the next: id first, then the content. */
  readonly capabilities: readonly Uint8Array[];
}

/** Where the pending bits lie behind an MSI-X table. */
export function pendingBitsAt(vectors: number): number {
  return Math.ceil((vectors * MsiX.ENTRY_BYTES) / 2048) * 2048;
}

/** How large a BAR must be for a table and its pending bits. */
export function msixBarBytes(vectors: number): number {
  return Math.max(4096, 2 ** Math.ceil(Math.log2(pendingBitsAt(vectors) + Math.ceil(vectors / 64) * 8)));
}

export class ConfigSpace {
  readonly layout: FunctionLayout;
  /** Where the capabilities of MSI and MSI-X begin; 0 for none. */
  readonly msiAt: number;
  readonly msixAt: number;
  /** Where each of the further capabilities begins. */
  readonly capabilitiesAt: readonly number[];
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  /** Ones where the guest may write. */
  readonly #writable = new Uint8Array(Config.BYTES);

  static create(): SharedArrayBuffer {
    return new SharedArrayBuffer(Config.BYTES);
  }

  /** `fresh`: writes what the function is; once, by whoever created the memory. */
  constructor(shared: SharedArrayBuffer, layout: FunctionLayout, fresh = false) {
    this.layout = layout;
    this.#bytes = new Uint8Array(shared);
    this.#view = new DataView(shared);
    let end: number = Config.DEVICE_SPECIFIC;
    const room = (length: number) => {
      const at = end;
      end = Math.ceil((at + length) / 4) * 4;
      if (end > Config.CONVENTIONAL_BYTES) throw new RangeError("a PCI function's capabilities do not fit");
      return at;
    };
    this.msiAt = layout.msi === undefined ? 0 : room(MsiField.CAPABILITY_BYTES);
    this.msixAt = layout.msix === undefined ? 0 : room(MsiX.CAPABILITY_BYTES);
    this.capabilitiesAt = layout.capabilities.map((content) => room(content.length + 1));
    this.#setWritable();
    if (fresh) this.#write();
  }

  read(offset: number, size: number): number {
    if (offset + size > Config.BYTES) return 0;
    if (size === 1) return this.#view.getUint8(offset);
    return size === 2 ? this.#view.getUint16(offset, true) : this.#view.getUint32(offset, true);
  }

  /** Changes what may be changed. Returns whether that moved, showed or hid a BAR. */
  write(offset: number, size: number, value: number): boolean {
    let changed = false;
    for (let byte = 0; byte < size; byte++) {
      const at = offset + byte;
      const writable = this.#writable[at] ?? 0;
      const before = this.#bytes[at]!;
      const after = (before & ~writable) | ((value >>> (8 * byte)) & writable);
      if (after === before) continue;
      this.#bytes[at] = after;
      changed ||= at < Config.STATUS || (at >= Config.BAR && at < Config.BAR + 4 * BARS);
    }
    return changed;
  }

  /** Lets a field of the device's own be written: `mask` is as wide as it. */
  allow(offset: number, mask: Uint8Array): void {
    this.#writable.set(mask, offset);
  }

  get command(): number {
    return this.#view.getUint16(Config.COMMAND, true);
  }

  /** Where a BAR is now; undefined while the function does not answer there. */
  barAddress(index: number): number | undefined {
    const bar = this.layout.bars[index];
    if (bar === undefined || (this.command & (bar.kind === "io" ? Command.IO : Command.MEMORY)) === 0) return undefined;
    const low = this.#view.getUint32(Config.BAR + 4 * index, true);
    if (bar.kind === "io") return low - (low % 4);
    const high = bar.kind === "memory64" ? this.#view.getUint32(Config.BAR + 4 * index + 4, true) : 0;
    return low - (low % 16) + high * 2 ** 32;
  }

  /** Puts a BAR somewhere, as firmware does. */
  placeBar(index: number, address: number): void {
    const at = Config.BAR + 4 * index;
    const flags = this.#view.getUint32(at, true) & 15;
    this.#view.setUint32(at, (address % 2 ** 32) + flags, true);
    if (this.layout.bars[index]?.kind === "memory64") this.#view.setUint32(at + 4, Math.floor(address / 2 ** 32), true);
  }

  /** Writes a register that the guest only reads. */
  set32(offset: number, value: number): void {
    this.#view.setUint32(offset, value >>> 0, true);
  }

  get msixControl(): number {
    return this.#view.getUint16(this.msixAt + MsiX.CONTROL, true);
  }

  /** Shows in the status register whether the function wants an interrupt by its pin. */
  showInterrupt(pending: boolean): void {
    const status = this.#bytes[Config.STATUS]!;
    this.#bytes[Config.STATUS] = pending ? status | StatusBit.INTERRUPT : status & ~StatusBit.INTERRUPT;
  }

  #setWritable(): void {
    const { bars } = this.layout;
    const writable = new DataView(this.#writable.buffer);
    writable.setUint16(Config.COMMAND, COMMAND_WRITABLE, true);
    writable.setUint8(Config.CACHE_LINE, 0xff);
    writable.setUint8(Config.INTERRUPT_LINE, 0xff);
    for (const [index, bar] of bars.entries()) {
      if (bar === undefined) continue;
      const at = Config.BAR + 4 * index;
      const fixed = bar.sizeBytes - 1;
      // A driver finds the size by writing ones: those of the address within the range do not stick (6.2.5.1).
      writable.setUint32(at, ~(fixed % 2 ** 32) >>> 0, true);
      if (bar.kind === "memory64") writable.setUint32(at + 4, ~Math.floor(fixed / 2 ** 32) >>> 0, true);
    }
    if (this.layout.msi !== undefined) {
      writable.setUint16(this.msiAt + MsiField.CONTROL, MsiField.ENABLE | MsiField.GRANTED, true);
      writable.setUint32(this.msiAt + MsiField.ADDRESS_LOW, 0xfffffffc, true);
      writable.setUint32(this.msiAt + MsiField.ADDRESS_HIGH, 0xffffffff, true);
      writable.setUint16(this.msiAt + MsiField.DATA, 0xffff, true);
      writable.setUint32(this.msiAt + MsiField.MASK, 2 ** this.layout.msi.vectors - 1, true);
    }
    if (this.msixAt > 0) writable.setUint16(this.msixAt + MsiX.CONTROL, MsiX.ENABLE | MsiX.FUNCTION_MASK, true);
  }

  #write(): void {
    const { identity, bars, interruptPin, msi, msix, capabilities } = this.layout;
    const view = this.#view;
    view.setUint16(Config.VENDOR, identity.vendor, true);
    view.setUint16(Config.DEVICE, identity.device, true);
    view.setUint8(Config.REVISION, identity.revision);
    view.setUint16(Config.CLASS, identity.classCode & 0xffff, true);
    view.setUint8(Config.CLASS + 2, identity.classCode >> 16);
    view.setUint16(Config.SUBSYSTEM_VENDOR, identity.subsystemVendor, true);
    view.setUint16(Config.SUBSYSTEM, identity.subsystem, true);
    view.setUint8(Config.INTERRUPT_PIN, interruptPin ? 1 : 0);
    for (const [index, bar] of bars.entries()) {
      if (bar === undefined) continue;
      const flags =
        bar.kind === "io" ? BarFlag.IO : bar.kind === "memory64" ? BarFlag.MEMORY_64 | BarFlag.PREFETCHABLE : 0;
      view.setUint32(Config.BAR + 4 * index, flags, true);
    }

    let pointer: number = Config.CAPABILITIES;
    const append = (at: number, content: Uint8Array) => {
      view.setUint8(pointer, at);
      view.setUint8(at, content[0]!);
      this.#bytes.set(content.subarray(1), at + 2);
      pointer = at + 1;
      view.setUint16(Config.STATUS, view.getUint16(Config.STATUS, true) | StatusBit.CAPABILITIES, true);
    };
    if (msi !== undefined) {
      append(this.msiAt, Uint8Array.of(Capability.MSI));
      const wanted = Math.log2(msi.vectors) << MsiField.WANTED_SHIFT;
      view.setUint16(this.msiAt + MsiField.CONTROL, wanted | MsiField.ADDRESS_64 | MsiField.MASKABLE, true);
    }
    if (msix !== undefined) {
      append(this.msixAt, Uint8Array.of(Capability.MSI_X));
      view.setUint16(this.msixAt + MsiX.CONTROL, msix.vectors - 1, true);
      view.setUint32(this.msixAt + MsiX.TABLE, msix.bar, true);
      view.setUint32(this.msixAt + MsiX.PENDING, pendingBitsAt(msix.vectors) | msix.bar, true);
    }
    for (const [index, content] of capabilities.entries()) append(this.capabilitiesAt[index]!, content);
  }
}
