/**
 * The PC's two 8259A interrupt controllers (Intel 8259A datasheet, 231468; command words on its pages 10 to 17), the
 * second on pin 2 of the first, and their edge/level control registers. Used with the machine's lock held.
 *
 * As KVM has it: single mode and level mode of ICW1 are not there (ELCR selects levels), polling answers at either
 * port, and a special mask is kept but changes nothing.
 */

import type { PicState } from "@lodge/kvm";
import { Pic, PicWord, type SharedArea } from "./shared-layout.ts";

/** ICW1 is a command byte with this bit; OCW3 one with {@link OCW3} but not this; OCW2 has neither. */
const ICW1 = 0x10;
const OCW3 = 0x08;
const Icw1 = { NEEDS_ICW4: 0x01 } as const;
const Icw4 = { AUTO_EOI: 0x02, SPECIAL_FULLY_NESTED: 0x10 } as const;
/** OCW3: poll; read register (with which); special mask (with whether). */
const Ocw3 = { READ_ISR: 0x01, READ: 0x02, POLL: 0x04, MASK_ON: 0x20, MASK: 0x40 } as const;
/** OCW2's upper three bits: rotate, specific, EOI. */
const Ocw2 = {
  ROTATE_AUTO_OFF: 0,
  EOI: 1,
  SPECIFIC_EOI: 3,
  ROTATE_AUTO_ON: 4,
  ROTATE_EOI: 5,
  SET_PRIORITY: 6,
  ROTATE_SPECIFIC_EOI: 7,
} as const;
/** What a write to the data port means: the mask, or the next initialization word. */
const Expect = { MASK: 0, ICW2: 1, ICW3: 2, ICW4: 3 } as const;

/** The pin of the first chip that the second is on. */
const CASCADE = 2;
/** Pins that ELCR lets be levels: not the timer, keyboard and cascade; not the clock chip and coprocessor. */
const ELCR_MASKS = [0xf8, 0xde] as const;

export interface PicPorts {
  /** The wire to the processor rose. */
  raised(): void;
  /** A pin's interrupt was ended (both chips counted through: 0 to 15). */
  acknowledged(pin: number): void;
  /** A pin's mask bit changed. */
  maskChanged(pin: number, masked: boolean): void;
  /** Whether some processor takes interrupts from here. */
  heard(): boolean;
}

export class Pics {
  readonly #words: Int32Array;
  readonly #ports: PicPorts;
  readonly #chips: readonly [Chip, Chip];

  constructor({ words }: SharedArea, ports: PicPorts) {
    this.#words = words;
    this.#ports = ports;
    this.#chips = [new Chip(words, 0), new Chip(words, 1)];
  }

  /** Power on. */
  reset(): void {
    this.#words.fill(0, Pic.chips, Pic.end);
    for (const chip of this.#chips) chip.set(PicWord.elcrMask, ELCR_MASKS[chip.number]!);
  }

  /** The wire to the processor. Needs no lock. */
  get output(): boolean {
    return this.#words[Pic.output] !== 0;
  }

  /** Sets one source's level at a pin, 0 to 15. Returns 1 for a new request, 0 for one merged, -1 for a masked pin. */
  setLine(pin: number, source: number, high: boolean): number {
    const at = Pic.lines + pin;
    const lines = high ? this.#words[at]! | source : this.#words[at]! & ~source;
    this.#words[at] = lines;
    const status = this.#chips[pin >> 3]!.setPin(pin & 7, lines !== 0);
    this.update();
    return status;
  }

  /** The processor's acknowledge cycle: which vector it takes. Pin 7's when the request is gone (page 18). */
  acknowledge(): number {
    Atomics.store(this.#words, Pic.output, 0);
    const [first, second] = this.#chips;
    const pin = first.highestRequest(true);
    let vector = first.get(PicWord.irqBase) + (pin < 0 ? 7 : pin);
    if (pin >= 0) this.#take(first, pin);
    if (pin === CASCADE) {
      const behind = second.highestRequest(false);
      if (behind >= 0) this.#take(second, behind);
      vector = second.get(PicWord.irqBase) + (behind < 0 ? 7 : behind);
    }
    this.update();
    return vector & 0xff;
  }

  /** Reads port 0x20, 0x21, 0xa0, 0xa1, 0x4d0 or 0x4d1. */
  read(port: number): number {
    if (port >= 0x4d0) return this.#chips[port & 1]!.get(PicWord.elcr);
    const chip = this.#chips[port >> 7]!;
    if (chip.get(PicWord.poll) !== 0) {
      const answer = this.#poll(chip);
      chip.set(PicWord.poll, 0);
      return answer;
    }
    if ((port & 1) !== 0) return chip.get(PicWord.imr);
    return chip.get(chip.get(PicWord.readRegSelect) !== 0 ? PicWord.isr : PicWord.irr);
  }

  write(port: number, value: number): void {
    if (port >= 0x4d0) {
      const chip = this.#chips[port & 1]!;
      chip.set(PicWord.elcr, value & chip.get(PicWord.elcrMask));
      return;
    }
    const chip = this.#chips[port >> 7]!;
    if ((port & 1) !== 0) this.#writeData(chip, value);
    else if ((value & ICW1) !== 0) this.#initialize(chip, value);
    else if ((value & OCW3) !== 0) writeOcw3(chip, value);
    else this.#writeOcw2(chip, value);
  }

  getState(number: 0 | 1): PicState {
    const chip = this.#chips[number]!;
    return Object.fromEntries(FIELDS.map((field) => [field, chip.get(PicWord[field])])) as PicState;
  }

  setState(number: 0 | 1, state: PicState): void {
    const chip = this.#chips[number]!;
    for (const field of FIELDS) chip.set(PicWord[field], state[field] & 0xff);
    this.update();
  }

  /** After any state changed: raises or lowers the wire to the processor. */
  update(): void {
    const [first, second] = this.#chips;
    if (second.highestRequest(false) >= 0) {
      first.setPin(CASCADE, true);
      first.setPin(CASCADE, false);
    }
    const high = first.highestRequest(true) >= 0;
    const was = Atomics.exchange(this.#words, Pic.output, high ? 1 : 0);
    if (high && was === 0) this.#ports.raised();
  }

  #take(chip: Chip, pin: number): void {
    const bit = 1 << pin;
    chip.set(PicWord.isr, chip.get(PicWord.isr) | bit);
    // A level stays requested for as long as it is high.
    if ((chip.get(PicWord.elcr) & bit) === 0) chip.set(PicWord.irr, chip.get(PicWord.irr) & ~bit);
    if (chip.get(PicWord.autoEoi) === 0) return;
    if (chip.get(PicWord.rotateOnAutoEoi) !== 0) chip.set(PicWord.priorityAdd, (pin + 1) & 7);
    this.#end(chip, pin);
  }

  #end(chip: Chip, pin: number): void {
    chip.set(PicWord.isr, chip.get(PicWord.isr) & ~(1 << pin));
    this.#ports.acknowledged(chip.number * 8 + pin);
  }

  /** Page 16: the read is the acknowledge cycle. */
  #poll(chip: Chip): number {
    const pin = chip.highestRequest(chip.number === 0);
    if (pin < 0) {
      this.update();
      return 7;
    }
    if (chip.number === 1) {
      const first = this.#chips[0];
      first.set(PicWord.isr, first.get(PicWord.isr) & ~(1 << CASCADE));
      first.set(PicWord.irr, first.get(PicWord.irr) & ~(1 << CASCADE));
    }
    chip.set(PicWord.irr, chip.get(PicWord.irr) & ~(1 << pin));
    this.#end(chip, pin);
    if (chip.number === 1 || pin !== CASCADE) this.update();
    return pin | 0x80;
  }

  #initialize(chip: Chip, icw1: number): void {
    const edges = chip.get(PicWord.irr) & ~chip.get(PicWord.elcr);
    chip.set(PicWord.init4, icw1 & Icw1.NEEDS_ICW4);
    chip.set(PicWord.irr, chip.get(PicWord.irr) & chip.get(PicWord.elcr));
    for (const at of [
      PicWord.lastIrr,
      PicWord.imr,
      PicWord.priorityAdd,
      PicWord.specialMask,
      PicWord.readRegSelect,
    ] as const) {
      chip.set(at, 0);
    }
    if (chip.get(PicWord.init4) === 0) {
      chip.set(PicWord.specialFullyNestedMode, 0);
      chip.set(PicWord.autoEoi, 0);
    }
    chip.set(PicWord.initState, Expect.ICW2);
    if (!this.#ports.heard()) return;
    for (let pin = 0; pin < 8; pin++) {
      if ((edges & (1 << pin)) !== 0) this.#end(chip, pin);
    }
  }

  #writeOcw2(chip: Chip, value: number): void {
    const command = value >> 5;
    switch (command) {
      case Ocw2.ROTATE_AUTO_OFF:
      case Ocw2.ROTATE_AUTO_ON:
        chip.set(PicWord.rotateOnAutoEoi, command >> 2);
        return;
      case Ocw2.EOI:
      case Ocw2.ROTATE_EOI: {
        const pin = chip.highestOf(chip.get(PicWord.isr));
        if (pin < 0) return;
        if (command === Ocw2.ROTATE_EOI) chip.set(PicWord.priorityAdd, (pin + 1) & 7);
        this.#end(chip, pin);
        break;
      }
      case Ocw2.SPECIFIC_EOI:
        this.#end(chip, value & 7);
        break;
      case Ocw2.SET_PRIORITY:
        chip.set(PicWord.priorityAdd, (value + 1) & 7);
        break;
      case Ocw2.ROTATE_SPECIFIC_EOI:
        chip.set(PicWord.priorityAdd, (value + 1) & 7);
        this.#end(chip, value & 7);
        break;
      default:
        return;
    }
    this.update();
  }

  #writeData(chip: Chip, value: number): void {
    switch (chip.get(PicWord.initState)) {
      case Expect.MASK: {
        const changed = chip.get(PicWord.imr) ^ value;
        chip.set(PicWord.imr, value);
        for (let pin = 0; pin < 8; pin++) {
          if ((changed & (1 << pin)) === 0) continue;
          this.#ports.maskChanged(chip.number * 8 + pin, (value & (1 << pin)) !== 0);
        }
        this.update();
        return;
      }
      case Expect.ICW2:
        chip.set(PicWord.irqBase, value & 0xf8);
        chip.set(PicWord.initState, Expect.ICW3);
        return;
      case Expect.ICW3:
        chip.set(PicWord.initState, chip.get(PicWord.init4) !== 0 ? Expect.ICW4 : Expect.MASK);
        return;
      case Expect.ICW4:
        chip.set(PicWord.specialFullyNestedMode, (value & Icw4.SPECIAL_FULLY_NESTED) !== 0 ? 1 : 0);
        chip.set(PicWord.autoEoi, (value & Icw4.AUTO_EOI) !== 0 ? 1 : 0);
        chip.set(PicWord.initState, Expect.MASK);
        return;
    }
  }
}

function writeOcw3(chip: Chip, value: number): void {
  if ((value & Ocw3.POLL) !== 0) chip.set(PicWord.poll, 1);
  if ((value & Ocw3.READ) !== 0) chip.set(PicWord.readRegSelect, value & Ocw3.READ_ISR);
  if ((value & Ocw3.MASK) !== 0) chip.set(PicWord.specialMask, (value & Ocw3.MASK_ON) !== 0 ? 1 : 0);
}

const FIELDS = Object.keys(PicWord).filter((name) => name !== "end") as (keyof PicState)[];

/** One 8259A's words, and its priority logic. */
class Chip {
  readonly number: 0 | 1;
  readonly #words: Int32Array;
  readonly #at: number;

  constructor(words: Int32Array, number: 0 | 1) {
    this.#words = words;
    this.number = number;
    this.#at = Pic.chips + number * PicWord.end;
  }

  get(field: number): number {
    return this.#words[this.#at + field]!;
  }
  set(field: number, value: number): void {
    this.#words[this.#at + field] = value;
  }

  setPin(pin: number, high: boolean): number {
    const bit = 1 << pin;
    const irr = this.get(PicWord.irr);
    const last = this.get(PicWord.lastIrr);
    let status = 1;
    if (high && ((this.get(PicWord.elcr) & bit) !== 0 || (last & bit) === 0)) {
      status = (irr & bit) === 0 ? 1 : 0;
      this.set(PicWord.irr, irr | bit);
    } else if (!high && (this.get(PicWord.elcr) & bit) !== 0) {
      this.set(PicWord.irr, irr & ~bit);
    }
    this.set(PicWord.lastIrr, high ? last | bit : last & ~bit);
    return (this.get(PicWord.imr) & bit) !== 0 ? -1 : status;
  }

  /** The pin of highest priority in a set, or -1. */
  highestOf(pins: number): number {
    const rank = this.#rank(pins);
    return rank === LOWEST ? -1 : (rank + this.get(PicWord.priorityAdd)) & 7;
  }

  /** The unmasked request that outranks all that is being served, or -1. */
  highestRequest(isFirst: boolean): number {
    const request = this.get(PicWord.irr) & ~this.get(PicWord.imr);
    let served = this.get(PicWord.isr);
    // Special fully nested: the second chip may interrupt its own interrupt (page 14).
    if (isFirst && this.get(PicWord.specialFullyNestedMode) !== 0) served &= ~(1 << CASCADE);
    return this.#rank(request) < this.#rank(served) ? this.highestOf(request) : -1;
  }

  #rank(pins: number): number {
    for (let rank = 0; rank < LOWEST; rank++) {
      if ((pins & (1 << ((rank + this.get(PicWord.priorityAdd)) & 7))) !== 0) return rank;
    }
    return LOWEST;
  }
}

/** Below all eight pins. */
const LOWEST = 8;
