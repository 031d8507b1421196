/**
 * A 16550A serial port. The guest's side is {@link Uart16550.read} and {@link Uart16550.write}, in the vCPUs' threads;
 * the host's side, in the I/O thread, is {@link Uart16550.transmitted} and {@link Uart16550.receive}. Both are made over
 * the same shared memory.
 *
 * The line is as fast as the host: a character is sent when it is written, unless the host is {@link OUTPUT_BYTES} behind;
 * then the transmitter is busy until the host has taken some. Baud rate, parity and breaks are kept, and mean nothing.
 */

import { SharedLock } from "@lodge/kvm";
import { ByteRing } from "../../byte-ring.ts";
import { ByteRegisters, type InterruptLine } from "../../registers.ts";
import { Fcr, FIFO, Ier, Iir, Lcr, Lsr, Mcr, Msr, Register } from "./layout.ts";

/** How far the guest may be ahead of the host. */
const OUTPUT_BYTES = 16384;
/** What waits for the guest, the chip's own FIFO included. */
const INPUT_BYTES = 4096;

/** Words of the shared memory. */
const Word = {
  lock: 0,
  ier: 1,
  fcr: 2,
  lcr: 3,
  mcr: 4,
  scratch: 5,
  divisor: 6,
  /** Changes of modem lines that the guest has not read: MSR's low half. */
  modemChanges: 7,
  /** 1: the transmitter became empty, and the guest was not told. */
  emptyPending: 8,
  overrun: 9,
  level: 10,
  /** 1: the host was told of output, and has not come for it yet. */
  outputTold: 11,
  /** 1: the guest waits until the output has room. */
  transmitterBusy: 12,
  /** 1: the host waits until the input has room. */
  inputWanted: 13,
  end: 14,
} as const;

const INPUT_AT = Word.end * 4;
const OUTPUT_AT = INPUT_AT + ByteRing.bytesFor(INPUT_BYTES);
const SHARED_BYTES = OUTPUT_AT + ByteRing.bytesFor(OUTPUT_BYTES);

/** The version of {@link UartState}. */
const VERSION = 1;

/** A saved port. What the guest sent and the host has not taken is not in it: take it before saving. */
export interface UartState {
  readonly version: number;
  readonly ier: number;
  readonly fcr: number;
  readonly lcr: number;
  readonly mcr: number;
  readonly scratch: number;
  readonly divisor: number;
  readonly modemChanges: number;
  readonly emptyPending: number;
  readonly overrun: number;
  /** Received and not yet read. */
  readonly input: Uint8Array;
}

export interface UartWires {
  /** The interrupt line. */
  readonly irq: InterruptLine;
  /** Output waits ({@link Uart16550.transmitted}), or input has room again ({@link Uart16550.receive}). */
  readonly wakeHost: () => void;
}

export class Uart16550 extends ByteRegisters {
  /** How many ports it takes. */
  static readonly PORTS = 8;

  readonly #words: Int32Array;
  readonly #lock: SharedLock;
  readonly #input: ByteRing;
  readonly #output: ByteRing;
  readonly #wires: UartWires;

  /** Shared memory for a port: a new one, or one as it was saved. */
  static create(saved?: UartState): SharedArrayBuffer {
    const shared = new SharedArrayBuffer(SHARED_BYTES);
    const words = new Int32Array(shared);
    words[Word.divisor] = 12; // 9600 baud, which is what firmware leaves
    words[Word.lcr] = 3;
    words[Word.mcr] = Mcr.OUT2;
    if (saved === undefined) return shared;
    for (const field of FIELDS) {
      const value = saved[field];
      if (!Number.isInteger(value) || value < 0 || value > 0xffff) {
        throw new RangeError(`the serial port's saved state has ${field} ${value}`);
      }
      words[Word[field]] = value;
    }
    if (
      saved.version !== VERSION ||
      new ByteRing(shared, INPUT_AT, INPUT_BYTES).put(saved.input) < saved.input.length
    ) {
      throw new RangeError(
        `the serial port's saved state has version ${saved.version} and ${saved.input.length} bytes`,
      );
    }
    return shared;
  }

  constructor(shared: SharedArrayBuffer, wires: UartWires) {
    super();
    this.#words = new Int32Array(shared, 0, Word.end);
    this.#lock = new SharedLock(this.#words, Word.lock);
    this.#input = new ByteRing(shared, INPUT_AT, INPUT_BYTES);
    this.#output = new ByteRing(shared, OUTPUT_AT, OUTPUT_BYTES);
    this.#wires = wires;
  }

  save(): UartState {
    const input = this.#input.take();
    this.#input.put(input);
    const fields = Object.fromEntries(FIELDS.map((field) => [field, this.#words[Word[field]]!]));
    return { ...(fields as Record<(typeof FIELDS)[number], number>), version: VERSION, input };
  }

  // The host's side.

  /** Takes what the guest has sent since the last time. */
  transmitted(): Uint8Array {
    // Whatever comes after this is told of again.
    this.#locked(() => {
      this.#words[Word.outputTold] = 0;
    });
    const bytes = this.#output.take();
    this.#locked(() => {
      if (this.#words[Word.transmitterBusy] === 0) return;
      this.#words[Word.transmitterBusy] = 0;
      this.#words[Word.emptyPending] = 1;
    });
    return bytes;
  }

  /** Characters for the guest. Returns how many there was room for; `wakeHost` says when there is room again. */
  receive(bytes: Uint8Array): number {
    let count = 0;
    this.#locked(() => {
      // In loopback the chip hears nothing from outside.
      if (this.#words[Word.mcr]! & Mcr.LOOPBACK) count = bytes.length;
      else count = this.#input.put(bytes);
      if (count < bytes.length) this.#words[Word.inputWanted] = 1;
    });
    return count;
  }

  // The guest's side.

  protected readByte(offset: number): number {
    let value = 0;
    this.#locked(() => {
      value = this.#readRegister(offset);
    });
    return value;
  }

  protected writeByte(offset: number, value: number): void {
    this.#locked(() => this.#writeRegister(offset, value));
  }

  #readRegister(offset: number): number {
    const words = this.#words;
    switch (offset) {
      case Register.DATA:
        return this.#divisorShown ? words[Word.divisor]! & 0xff : this.#readData();
      case Register.IER:
        return this.#divisorShown ? words[Word.divisor]! >> 8 : words[Word.ier]!;
      case Register.IIR: {
        const cause = this.#cause();
        // Reading it says that the guest knows.
        if (cause === Iir.TRANSMITTER_EMPTY) words[Word.emptyPending] = 0;
        return cause | (words[Word.fcr]! & Fcr.ENABLE ? Iir.FIFOS_ENABLED : 0);
      }
      case Register.LCR:
        return words[Word.lcr]!;
      case Register.MCR:
        return words[Word.mcr]!;
      case Register.LSR: {
        const status =
          (this.#input.length > 0 ? Lsr.DATA_READY : 0) |
          (words[Word.overrun] ? Lsr.OVERRUN : 0) |
          (this.#output.room > 0 ? Lsr.HOLDING_EMPTY | Lsr.TRANSMITTER_EMPTY : 0);
        words[Word.overrun] = 0;
        if (this.#output.room === 0) words[Word.transmitterBusy] = 1;
        return status;
      }
      case Register.MSR: {
        const changes = words[Word.modemChanges]!;
        words[Word.modemChanges] = 0;
        return this.#modemLines(words[Word.mcr]!) | changes;
      }
      default:
        return words[Word.scratch]!;
    }
  }

  #writeRegister(offset: number, value: number): void {
    const words = this.#words;
    switch (offset) {
      case Register.DATA:
        if (this.#divisorShown) words[Word.divisor] = (words[Word.divisor]! & 0xff00) | value;
        else this.#send(value);
        break;
      case Register.IER:
        if (this.#divisorShown) {
          words[Word.divisor] = (words[Word.divisor]! & 0xff) | (value << 8);
          break;
        }
        // Enabling it while the transmitter is empty interrupts (data sheet 8.6.5; drivers test for it).
        if (value & ~words[Word.ier]! & Ier.TRANSMITTER_EMPTY && this.#output.room > 0) words[Word.emptyPending] = 1;
        words[Word.ier] = value & Ier.ALL;
        break;
      case Register.IIR:
        words[Word.fcr] = value & (Fcr.ENABLE | Fcr.TRIGGER);
        if (value & Fcr.CLEAR_RECEIVER) this.#input.clear();
        break;
      case Register.LCR:
        words[Word.lcr] = value;
        break;
      case Register.MCR:
        this.#setModemControl(value & Mcr.ALL);
        break;
      case Register.SCR:
        words[Word.scratch] = value;
        break;
      default:
      // LSR and MSR are only read (the data sheet leaves writes to the factory).
    }
  }

  get #divisorShown(): boolean {
    return (this.#words[Word.lcr]! & Lcr.DLAB) !== 0;
  }

  #readData(): number {
    const byte = this.#input.takeByte();
    if (this.#words[Word.inputWanted] !== 0 && this.#input.length <= INPUT_BYTES / 2) {
      this.#words[Word.inputWanted] = 0;
      this.#wires.wakeHost();
    }
    return Math.max(0, byte);
  }

  #send(value: number): void {
    const words = this.#words;
    words[Word.emptyPending] = 0;
    if (words[Word.mcr]! & Mcr.LOOPBACK) {
      if (this.#input.length >= FIFO || !this.#input.putByte(value)) words[Word.overrun] = 1;
    } else {
      // A guest that does not look at LSR loses characters, as on the wire.
      this.#output.putByte(value);
      if (words[Word.outputTold] === 0) {
        words[Word.outputTold] = 1;
        this.#wires.wakeHost();
      }
    }
    if (this.#output.room > 0) words[Word.emptyPending] = 1;
    else words[Word.transmitterBusy] = 1;
  }

  #setModemControl(value: number): void {
    const words = this.#words;
    const before = this.#modemLines(words[Word.mcr]!);
    words[Word.mcr] = value;
    const after = this.#modemLines(value);
    const changed = (before ^ after) >> 4;
    // A change of the ring indicator is its end only (data sheet 8.8).
    const ringEnded = before & ~after & Msr.RING ? Msr.RING_ENDED : 0;
    words[Word.modemChanges] = words[Word.modemChanges]! | (changed & ~Msr.RING_ENDED) | ringEnded;
  }

  /** In loopback the outputs are wired to the inputs; otherwise somebody listens (data sheet 8.7). */
  #modemLines(mcr: number): number {
    if ((mcr & Mcr.LOOPBACK) === 0) return Msr.CARRIER | Msr.DSR | Msr.CTS;
    return (
      (mcr & Mcr.DTR ? Msr.DSR : 0) |
      (mcr & Mcr.RTS ? Msr.CTS : 0) |
      (mcr & Mcr.OUT1 ? Msr.RING : 0) |
      (mcr & Mcr.OUT2 ? Msr.CARRIER : 0)
    );
  }

  #cause(): number {
    const ier = this.#words[Word.ier]!;
    if (ier & Ier.LINE_STATUS && this.#words[Word.overrun]) return Iir.LINE_STATUS;
    const waiting = this.#input.length;
    if (ier & Ier.RECEIVED && waiting > 0) return waiting >= this.#trigger ? Iir.RECEIVED : Iir.TIMEOUT;
    if (ier & Ier.TRANSMITTER_EMPTY && this.#words[Word.emptyPending]) return Iir.TRANSMITTER_EMPTY;
    if (ier & Ier.MODEM_STATUS && this.#words[Word.modemChanges]) return Iir.MODEM_STATUS;
    return Iir.NONE;
  }

  get #trigger(): number {
    const fcr = this.#words[Word.fcr]!;
    return fcr & Fcr.ENABLE ? [1, 4, 8, 14][fcr >> 6]! : 1;
  }

  /** Does something under the lock, and sets the interrupt line as it is afterwards. */
  #locked(act: () => void): void {
    this.#lock.acquire();
    act();
    // OUT2 switches the line on, on every PC's serial port.
    const high = this.#cause() !== Iir.NONE && (this.#words[Word.mcr]! & (Mcr.OUT2 | Mcr.LOOPBACK)) === Mcr.OUT2;
    if (high !== (this.#words[Word.level] !== 0)) {
      this.#words[Word.level] = high ? 1 : 0;
      this.#wires.irq.set(high);
    }
    this.#lock.release();
  }
}

const FIELDS = ["ier", "fcr", "lcr", "mcr", "scratch", "divisor", "modemChanges", "emptyPending", "overrun"] as const;
