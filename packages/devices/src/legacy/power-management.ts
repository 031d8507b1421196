/**
 * ACPI's fixed hardware (ACPI 6.4, section 4.8): the PM1 event and control registers, the power management timer, and the
 * power button. Asking for S5 switches the machine off. One block of sixteen general-purpose events is for what ACPI's
 * methods deal with (4.8.4.1). There is no legacy mode: SCI_EN is always set, as the FADT says with an SMI command port of 0.
 */

import { SharedLock } from "@lodge/kvm";
import { ByteRegisters, type InterruptLine } from "../registers.ts";

/** Offsets from the block's base, which the FADT names one by one. */
export const PmOffset = { EVENT: 0, CONTROL: 4, TIMER: 8, GENERAL: 12 } as const;
/** Status and enable registers of the general-purpose events, one after the other. */
export const GENERAL_BYTES = 4;

/** PM1 status and enable bits. */
const Event = { TIMER: 1, GLOBAL: 0x20, POWER_BUTTON: 0x100, SLEEP_BUTTON: 0x200, RTC: 0x400, WAKE: 0x8000 } as const;

const SCI_ENABLE = 1;
const SLEEP_TYPE_SHIFT = 10;
const SLEEP_ENABLE = 1 << 13;

/** What \_S5 in the DSDT gives as SLP_TYP. */
export const SOFT_OFF_TYPE = 5;

/** The timer's frequency in Hz (4.8.3.3). */
const TIMER_HZ = 3_579_545;

const Word = {
  lock: 0,
  status: 1,
  enable: 2,
  control: 3,
  level: 4,
  generalStatus: 5,
  generalEnable: 6,
  end: 8,
} as const;

export interface PowerManagementWires {
  /** The system control interrupt: level-triggered. */
  readonly sci: InterruptLine;
  /** A clock that never goes back, in nanoseconds. */
  readonly nowNs: () => number;
  /** The guest switches itself off. */
  readonly powerOff: () => void;
}

export class PowerManagement extends ByteRegisters {
  static readonly PORTS = 16;
  readonly #words: Int32Array;
  readonly #lock: SharedLock;
  readonly #wires: PowerManagementWires;

  static create(): SharedArrayBuffer {
    return new SharedArrayBuffer(Word.end * 4);
  }

  constructor(shared: SharedArrayBuffer, wires: PowerManagementWires) {
    super();
    this.#words = new Int32Array(shared);
    this.#lock = new SharedLock(this.#words, Word.lock);
    this.#wires = wires;
  }

  /** The host's side: somebody presses the power button. */
  pressPowerButton(): void {
    this.#locked(() => {
      this.#words[Word.status] = this.#words[Word.status]! | Event.POWER_BUTTON;
    });
  }

  /** The host's side: a general-purpose event, 0 to 15, has happened. */
  raise(event: number): void {
    this.#locked(() => {
      this.#words[Word.generalStatus] = this.#words[Word.generalStatus]! | (1 << event);
    });
  }

  /** The timer is read in one piece, so that it cannot change between its bytes. */
  override read(offset: number, size: number): number {
    if (offset >= PmOffset.TIMER && offset < PmOffset.GENERAL)
      return (this.#timer() >>> (8 * (offset - PmOffset.TIMER))) >>> 0;
    return super.read(offset, size);
  }

  protected readByte(offset: number): number {
    if (offset >= PmOffset.GENERAL) {
      const word = offset < PmOffset.GENERAL + 2 ? Word.generalStatus : Word.generalEnable;
      return (this.#words[word]! >> (8 * (offset & 1))) & 0xff;
    }
    const register = this.#words[offset < 2 ? Word.status : offset < PmOffset.CONTROL ? Word.enable : Word.control]!;
    const value = offset >= PmOffset.CONTROL ? (register | SCI_ENABLE) & ~SLEEP_ENABLE : register;
    return offset < PmOffset.CONTROL + 2 ? (value >> (8 * (offset & 1))) & 0xff : 0;
  }

  protected writeByte(offset: number, value: number): void {
    const shifted = value << (8 * (offset & 1));
    const kept = offset & 1 ? 0x00ff : 0xff00;
    let off = false;
    this.#locked(() => {
      const words = this.#words;
      // Status bits are cleared by writing ones.
      if (offset < 2) words[Word.status] = words[Word.status]! & ~shifted;
      else if (offset < PmOffset.CONTROL) words[Word.enable] = (words[Word.enable]! & kept) | shifted;
      else if (offset < PmOffset.CONTROL + 2) {
        words[Word.control] = (words[Word.control]! & kept) | shifted;
        const type = (words[Word.control]! >> SLEEP_TYPE_SHIFT) & 7;
        off = (words[Word.control]! & SLEEP_ENABLE) !== 0 && type === SOFT_OFF_TYPE;
        words[Word.control] = words[Word.control]! & ~SLEEP_ENABLE;
      } else if (offset >= PmOffset.GENERAL + 2) {
        words[Word.generalEnable] = (words[Word.generalEnable]! & kept) | shifted;
      } else if (offset >= PmOffset.GENERAL) {
        words[Word.generalStatus] = words[Word.generalStatus]! & ~shifted;
      }
    });
    if (off) this.#wires.powerOff();
  }

  /** 32 bits, as the FADT's TMR_VAL_EXT says. */
  #timer(): number {
    return Math.floor(this.#wires.nowNs() * (TIMER_HZ / 1e9)) % 2 ** 32;
  }

  #locked(act: () => void): void {
    this.#lock.acquire();
    act();
    const { POWER_BUTTON, SLEEP_BUTTON, GLOBAL } = Event;
    const due = this.#words[Word.status]! & this.#words[Word.enable]! & (POWER_BUTTON | SLEEP_BUTTON | GLOBAL);
    const general = this.#words[Word.generalStatus]! & this.#words[Word.generalEnable]!;
    const high = (due | general) !== 0;
    if (high !== (this.#words[Word.level] !== 0)) {
      this.#words[Word.level] = high ? 1 : 0;
      this.#wires.sci.set(high);
    }
    this.#lock.release();
  }
}
