/** Bits of the x87 control and status words (Intel SDM vol. 1, 8.1.3 and 8.1.5). */

/** Exceptions: flags in the status word, masks in the control word. */
export const Exception = {
  /** Invalid operation; with {@link Status.STACK_FAULT}, of the register stack. */
  IE: 0x01,
  /** Denormal operand. */
  DE: 0x02,
  /** Division by zero. */
  ZE: 0x04,
  OE: 0x08,
  UE: 0x10,
  /** Precision: the result is rounded. */
  PE: 0x20,
  ALL: 0x3f,
} as const;

/** Exceptions found before there is a result; those left are found with it. */
export const BEFORE_RESULT = Exception.IE | Exception.DE | Exception.ZE;

export const Status = {
  STACK_FAULT: 0x40,
  /** An unmasked exception is pending. */
  SUMMARY: 0x80,
  C0: 0x100,
  C1: 0x200,
  C2: 0x400,
  /** Kept apart from the status word, in `State.ftop`. */
  TOP_SHIFT: 11,
  C3: 0x4000,
  CONDITIONS: 0x4700,
  /** Always equals SUMMARY since the 287. */
  BUSY: 0x8000,
} as const;

/** Bits 6 (always 1), 7 and 13 to 15 (always 0) of the control word cannot be changed; bit 12 does nothing. */
export const CONTROL_WRITABLE = 0x1f3f;
export const CONTROL_ALWAYS = 0x40;

/** Bits 10 and 11 of the control word. */
export const Rounding = { NEAREST: 0, DOWN: 1, UP: 2, ZERO: 3 } as const;
export type Rounding = (typeof Rounding)[keyof typeof Rounding];

export function roundingOf(control: number): Rounding {
  return ((control >>> 10) & 3) as Rounding;
}

/** Bits of significand that arithmetic rounds to: bits 8 and 9 of the control word. */
export function precisionOf(control: number): 24 | 53 | 64 {
  return PRECISIONS[(control >>> 8) & 3]!;
}
const PRECISIONS = [24, 64, 53, 64] as const;

/** SUMMARY and BUSY as they follow from flags and masks: they cannot be set otherwise. */
export function withSummary(status: number, control: number): number {
  const pending = status & ~control & Exception.ALL;
  const rest = status & ~(Status.SUMMARY | Status.BUSY);
  return pending === 0 ? rest : rest | Status.SUMMARY | Status.BUSY;
}
