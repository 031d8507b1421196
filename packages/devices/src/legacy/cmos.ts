/**
 * The real-time clock and its memory: an MC146818A at ports 0x70 (index) and 0x71 (data). It tells the host's time, moved
 * by what the guest has set, in UTC. Its interrupts are raised by the I/O thread ({@link Cmos.nextEvent}, {@link Cmos.expire}).
 * That thread is late, and wakes no more than a thousand times a second: periods that it has missed are made up for, each when
 * the guest has acknowledged the one before. The square wave, which leads nowhere on a PC, is left out.
 */

import { SharedLock } from "@lodge/kvm";
import { ByteRegisters, type InterruptLine } from "../registers.ts";

const Port = { INDEX: 0, DATA: 1 } as const;

/** Registers of the chip (data sheet, figure 12), then what the PC keeps in its memory. */
const Register = {
  SECONDS: 0,
  ALARM_SECONDS: 1,
  MINUTES: 2,
  ALARM_MINUTES: 3,
  HOURS: 4,
  ALARM_HOURS: 5,
  WEEKDAY: 6,
  DAY: 7,
  MONTH: 8,
  YEAR: 9,
  A: 10,
  B: 11,
  C: 12,
  D: 13,
  /** KiB above 1 MiB, up to 64 MiB: two bytes. */
  EXTENDED_LOW: 0x17,
  EXTENDED_HIGH: 0x18,
  EXTENDED_LOW_COPY: 0x30,
  EXTENDED_HIGH_COPY: 0x31,
  /** The FADT's Century field names it. */
  CENTURY: 0x32,
  /** Units of 64 KiB above 16 MiB. */
  ABOVE_16M_LOW: 0x34,
  ABOVE_16M_HIGH: 0x35,
  /** Units of 64 KiB above 4 GiB: three bytes. */
  ABOVE_4G: 0x5b,
  /** vCPUs minus one, as Bochs's BIOS began it. */
  CPUS: 0x5f,
} as const;

const A_UPDATE_IN_PROGRESS = 0x80;
const B = {
  SET: 0x80,
  PERIODIC_INTERRUPT: 0x40,
  ALARM_INTERRUPT: 0x20,
  UPDATE_INTERRUPT: 0x10,
  BINARY: 4,
  HOURS_24: 2,
} as const;
const C = { INTERRUPT: 0x80, PERIODIC: 0x40, ALARM: 0x20, UPDATE: 0x10 } as const;
/** Flags that interrupt, in B where they are enabled and in C where they are raised. */
const FLAGS = C.PERIODIC | C.ALARM | C.UPDATE;

/** Divider bits of A for the crystal that PCs have, and its frequency. */
const DIVIDER_32K = 2;
const CRYSTAL_HZ = 32_768;
/** Missed periods that are made up for; a guest that was away for longer has other clocks to look at. */
const MOST_MISSED = 1024;
/** The battery is good. */
const D_VALID = 0x80;
/** An alarm register of 0xc0 and above matches every value. */
const ANY = 0xc0;
const PM = 0x80;

/** How long before a second ends the chip says that it will update (data sheet: 244 microseconds). */
const UPDATE_MS = 0.244;

const Word = { lock: 0, index: 1, level: 2, end: 4 } as const;
/**
 * Doubles: the guest's clock minus the host's in milliseconds; the second that was last looked at; the number of the last
 * period that was told.
 */
const Time = { OFFSET: 0, SECOND: 1, PERIOD: 2, COUNT: 3 } as const;
const TIMES_AT = Word.end * 4;
const MEMORY_AT = TIMES_AT + 8 * Time.COUNT;
const MEMORY_BYTES = 128;

export interface CmosWires {
  readonly irq: InterruptLine;
  /** Milliseconds since 1970, UTC. */
  readonly nowMs: () => number;
  /** The guest changed what {@link Cmos.nextEvent} depends on. */
  readonly wakeHost: () => void;
}

export class Cmos extends ByteRegisters {
  static readonly PORTS = 2;

  readonly #words: Int32Array;
  readonly #times: Float64Array;
  readonly #memory: Uint8Array;
  readonly #lock: SharedLock;
  readonly #wires: CmosWires;

  /** `lowBytes` of RAM lie below 4 GiB, `highBytes` above. */
  static create({
    lowBytes,
    highBytes,
    cpus,
  }: {
    lowBytes: number;
    highBytes: number;
    cpus: number;
  }): SharedArrayBuffer {
    const shared = new SharedArrayBuffer(MEMORY_AT + MEMORY_BYTES);
    const memory = new Uint8Array(shared, MEMORY_AT);
    const put = (register: number, value: number, bytes: number) => {
      for (let byte = 0; byte < bytes; byte++) memory[register + byte] = Math.floor(value / 2 ** (8 * byte)) & 0xff;
    };
    const extended = Math.min(0xffff, Math.max(0, lowBytes - 2 ** 20) / 1024);
    put(Register.EXTENDED_LOW, extended, 2);
    put(Register.EXTENDED_LOW_COPY, extended, 2);
    put(Register.ABOVE_16M_LOW, Math.min(0xffff, Math.max(0, lowBytes - 2 ** 24) / 65536), 2);
    put(Register.ABOVE_4G, Math.min(0xffffff, highBytes / 65536), 3);
    memory[Register.CPUS] = Math.min(255, cpus - 1);
    // 32,768 Hz and the usual rate; BCD, 24 hours.
    memory[Register.A] = 0x26;
    memory[Register.B] = B.HOURS_24;
    return shared;
  }

  constructor(shared: SharedArrayBuffer, wires: CmosWires) {
    super();
    this.#words = new Int32Array(shared, 0, Word.end);
    this.#times = new Float64Array(shared, TIMES_AT, Time.COUNT);
    this.#memory = new Uint8Array(shared, MEMORY_AT, MEMORY_BYTES);
    this.#lock = new SharedLock(this.#words, Word.lock);
    this.#wires = wires;
  }

  /** When the I/O thread shall call {@link expire}: milliseconds from now, or undefined. */
  nextEvent(): number | undefined {
    const wanted = this.#memory[Register.B]!;
    const periodMs = this.#periodMs;
    const waits: number[] = [];
    if (wanted & (B.ALARM_INTERRUPT | B.UPDATE_INTERRUPT)) waits.push(untilNext(this.#guestMs(), 1000));
    if (wanted & B.PERIODIC_INTERRUPT && periodMs > 0) waits.push(untilNext(this.#wires.nowMs(), periodMs));
    return waits.length === 0 ? undefined : Math.min(...waits);
  }

  /** A second or a period has ended: raises what the guest wants to hear of it. Periods are counted only where it does. */
  expire(): void {
    this.#locked(() => {
      const second = Math.floor(this.#guestMs() / 1000);
      const memory = this.#memory;
      if (second !== this.#times[Time.SECOND]) {
        this.#times[Time.SECOND] = second;
        memory[Register.C] = memory[Register.C]! | C.UPDATE | (this.#alarmMatches() ? C.ALARM : 0);
      }
      if (memory[Register.B]! & ~memory[Register.C]! & C.PERIODIC && this.#takePeriod())
        memory[Register.C]! |= C.PERIODIC;
    });
  }

  /** What rate bits 1 and 2 give is what 8 and 9 do (data sheet, table 5); 0 for no periods. */
  get #periodMs(): number {
    const a = this.#memory[Register.A]!;
    const rate = a & 15;
    if (rate === 0 || ((a >> 4) & 7) !== DIVIDER_32K) return 0;
    return (2 ** ((rate < 3 ? rate + 7 : rate) - 1) / CRYSTAL_HZ) * 1000;
  }

  /** The number of the period that is now. Setting the clock changes nothing in them. */
  get #period(): number {
    return this.#periodMs === 0 ? 0 : Math.floor(this.#wires.nowMs() / this.#periodMs);
  }

  /** Whether a period has ended that was not told; it is now. */
  #takePeriod(): boolean {
    const now = this.#period;
    const last = this.#times[Time.PERIOD]!;
    if (now <= last) return false;
    this.#times[Time.PERIOD] = Math.max(last + 1, now - MOST_MISSED);
    return true;
  }

  protected readByte(port: number): number {
    let value = 0xff;
    if (port === Port.DATA) {
      this.#locked(() => {
        value = this.#readRegister(this.#words[Word.index]!);
      });
    }
    return value;
  }

  protected writeByte(port: number, value: number): void {
    let tellHost = false;
    this.#locked(() => {
      // Bit 7 masks the NMI on old boards.
      if (port === Port.INDEX) this.#words[Word.index] = value & 0x7f;
      else tellHost = this.#writeRegister(this.#words[Word.index]!, value);
    });
    if (tellHost) this.#wires.wakeHost();
  }

  #readRegister(register: number): number {
    const memory = this.#memory;
    switch (register) {
      case Register.SECONDS:
      case Register.MINUTES:
      case Register.HOURS:
      case Register.WEEKDAY:
      case Register.DAY:
      case Register.MONTH:
      case Register.YEAR:
      case Register.CENTURY:
        // While SET holds the clock, the guest reads what it has written.
        return memory[Register.B]! & B.SET ? memory[register]! : this.#timeField(register);
      case Register.A: {
        const intoSecondMs = ((this.#guestMs() % 1000) + 1000) % 1000;
        const updating = intoSecondMs > 1000 - UPDATE_MS && (memory[Register.B]! & B.SET) === 0;
        return (memory[Register.A]! & ~A_UPDATE_IN_PROGRESS) | (updating ? A_UPDATE_IN_PROGRESS : 0);
      }
      case Register.C: {
        const flags = memory[Register.C]!;
        const enabled = memory[Register.B]! & flags & FLAGS;
        // The line goes down, and up again at once for a period that was missed: it is an edge that interrupts.
        memory[Register.C] = 0;
        this.#drive();
        if (memory[Register.B]! & B.PERIODIC_INTERRUPT && this.#takePeriod()) memory[Register.C] = C.PERIODIC;
        return flags | (enabled ? C.INTERRUPT : 0);
      }
      case Register.D:
        return D_VALID;
      default:
        return memory[register]!;
    }
  }

  /** Returns whether the I/O thread must look at its timer again. */
  #writeRegister(register: number, value: number): boolean {
    const memory = this.#memory;
    switch (register) {
      case Register.C:
      case Register.D:
        return false;
      case Register.A:
        memory[Register.A] = value & ~A_UPDATE_IN_PROGRESS;
        this.#times[Time.PERIOD] = this.#period;
        return true;
      case Register.B: {
        if (value & ~memory[Register.B]! & B.PERIODIC_INTERRUPT) this.#times[Time.PERIOD] = this.#period;
        const held = memory[Register.B]! & B.SET;
        if (value & B.SET && !held) this.#freeze();
        memory[Register.B] = value;
        if (held && !(value & B.SET)) this.#setTime();
        return true;
      }
      case Register.SECONDS:
      case Register.MINUTES:
      case Register.HOURS:
      case Register.WEEKDAY:
      case Register.DAY:
      case Register.MONTH:
      case Register.YEAR:
      case Register.CENTURY:
        if (memory[Register.B]! & B.SET) memory[register] = value;
        else {
          // A single field set while the clock runs.
          this.#freeze();
          memory[register] = value;
          this.#setTime();
        }
        return true;
      default:
        memory[register] = value;
        return false;
    }
  }

  #guestMs(): number {
    return this.#wires.nowMs() + this.#times[Time.OFFSET]!;
  }

  #timeField(register: number): number {
    const time = new Date(this.#guestMs());
    switch (register) {
      case Register.SECONDS:
        return this.#encode(time.getUTCSeconds());
      case Register.MINUTES:
        return this.#encode(time.getUTCMinutes());
      case Register.HOURS:
        return this.#encodeHours(time.getUTCHours());
      case Register.WEEKDAY:
        return this.#encode(time.getUTCDay() + 1);
      case Register.DAY:
        return this.#encode(time.getUTCDate());
      case Register.MONTH:
        return this.#encode(time.getUTCMonth() + 1);
      case Register.YEAR:
        return this.#encode(time.getUTCFullYear() % 100);
      default:
        return this.#encode(Math.floor(time.getUTCFullYear() / 100));
    }
  }

  /** Writes the time into the registers, where it stands while the guest sets it. */
  #freeze(): void {
    for (const register of TIME_REGISTERS) this.#memory[register] = this.#timeField(register);
  }

  /** Takes the registers' time over. Fields out of range carry into the next, as Date counts. */
  #setTime(): void {
    const field = (register: number) => this.#decode(this.#memory[register]!);
    const year = field(Register.CENTURY) * 100 + field(Register.YEAR);
    const day = [year, field(Register.MONTH) - 1, field(Register.DAY)] as const;
    const hours = this.#decodeHours(this.#memory[Register.HOURS]!);
    const time = Date.UTC(...day, hours, field(Register.MINUTES), field(Register.SECONDS));
    if (Number.isFinite(time)) this.#times[Time.OFFSET] = time - this.#wires.nowMs();
  }

  #alarmMatches(): boolean {
    const pairs = [
      [Register.ALARM_SECONDS, Register.SECONDS],
      [Register.ALARM_MINUTES, Register.MINUTES],
      [Register.ALARM_HOURS, Register.HOURS],
    ] as const;
    return pairs.every(
      ([alarm, field]) => this.#memory[alarm]! >= ANY || this.#memory[alarm] === this.#timeField(field),
    );
  }

  get #binary(): boolean {
    return (this.#memory[Register.B]! & B.BINARY) !== 0;
  }
  #encode(value: number): number {
    return this.#binary ? value : (Math.floor(value / 10) << 4) | (value % 10);
  }
  #decode(value: number): number {
    return this.#binary ? value : (value >> 4) * 10 + (value & 15);
  }
  #encodeHours(hours: number): number {
    if (this.#memory[Register.B]! & B.HOURS_24) return this.#encode(hours);
    return this.#encode(hours % 12 || 12) | (hours >= 12 ? PM : 0);
  }
  #decodeHours(value: number): number {
    if (this.#memory[Register.B]! & B.HOURS_24) return this.#decode(value);
    return (this.#decode(value & ~PM) % 12) + (value & PM ? 12 : 0);
  }

  #locked(act: () => void): void {
    this.#lock.acquire();
    act();
    this.#drive();
    this.#lock.release();
  }

  /** Sets the line to what the flags say. */
  #drive(): void {
    const memory = this.#memory;
    const high = (memory[Register.B]! & memory[Register.C]! & FLAGS) !== 0;
    if (high === (this.#words[Word.level] !== 0)) return;
    this.#words[Word.level] = high ? 1 : 0;
    this.#wires.irq.set(high);
  }
}

/** Milliseconds until the next multiple of a period. */
function untilNext(nowMs: number, periodMs: number): number {
  return periodMs - (((nowMs % periodMs) + periodMs) % periodMs);
}

const TIME_REGISTERS = [
  Register.SECONDS,
  Register.MINUTES,
  Register.HOURS,
  Register.WEEKDAY,
  Register.DAY,
  Register.MONTH,
  Register.YEAR,
  Register.CENTURY,
] as const;
