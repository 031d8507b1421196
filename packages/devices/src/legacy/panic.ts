/** pvpanic: a port by which a guest says that its kernel has crashed (QEMU's docs/specs/pvpanic.rst). */

import { ByteRegisters } from "../registers.ts";

/** What the guest says; it reads which of them the host understands. */
export const PanicEvent = {
  /** The guest has panicked. */
  PANICKED: 1,
  /** It has, and loads a crash kernel that deals with it. */
  CRASH_LOADED: 2,
} as const;

export class PanicDevice extends ByteRegisters {
  static readonly PORT = 0x505;
  readonly #report: (crashLoaded: boolean) => void;

  constructor(report: (crashLoaded: boolean) => void) {
    super();
    this.#report = report;
  }

  protected readByte(): number {
    return PanicEvent.PANICKED | PanicEvent.CRASH_LOADED;
  }

  protected writeByte(_offset: number, value: number): void {
    if (value & (PanicEvent.PANICKED | PanicEvent.CRASH_LOADED)) this.#report((value & PanicEvent.CRASH_LOADED) !== 0);
  }
}
