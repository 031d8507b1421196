/** The ports by which a PC's processor resets its machine, without the chips that they belonged to. */

import { ByteRegisters } from "../registers.ts";

/** The keyboard controller's command that pulses output line 0, the reset line. */
const PULSE_RESET = 0xfe;

/**
 * An 8042 without keyboard and mouse, at ports 0x60 (data) and 0x64 (status, command): it never has anything to say, takes
 * every command, and pulses the reset line. ACPI tells guests that there is no keyboard controller to drive.
 */
export class KeyboardControllerReset extends ByteRegisters {
  readonly #reset: () => void;

  constructor(reset: () => void) {
    super();
    this.#reset = reset;
  }

  protected readByte(): number {
    return 0;
  }

  /** For the command port, 0x64. */
  protected writeByte(_offset: number, value: number): void {
    if (value === PULSE_RESET) this.#reset();
  }
}

/** The chipset's reset control register at port 0xcf9 (Intel ICH9 data sheet, 13.7.5); ACPI's reset register points to it. */
export class ResetControl extends ByteRegisters {
  /** What ACPI says to write: a full reset. */
  static readonly FULL = 0x06;
  static readonly #PULSE = 0x04;
  readonly #reset: () => void;

  constructor(reset: () => void) {
    super();
    this.#reset = reset;
  }

  protected readByte(): number {
    return 0;
  }

  protected writeByte(_offset: number, value: number): void {
    if (value & ResetControl.#PULSE) this.#reset();
  }
}
