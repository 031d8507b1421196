/** One decoded instruction: records that a decoder fills again and again, so that decoding allocates nothing. */

import type { Form } from "./form.ts";

/** How decoding ended. */
export const Status = {
  OK: 0,
  /** The byte at `end` is needed: fetch it (that may fault) and decode again from the start. */
  MORE: 1,
  /** #UD. */
  UNDEFINED: 2,
  /** More than 15 bytes: #GP(0). */
  TOO_LONG: 3,
} as const;
export type Status = (typeof Status)[keyof typeof Status];

/** What the code segment says: `16` and `32` also stand for compatibility mode. */
export type CodeSize = 16 | 32 | 64;

/** Segment registers by their numbers in instructions. */
export const SegmentRegister = { ES: 0, CS: 1, SS: 2, DS: 3, FS: 4, GS: 5 } as const;

/** Register files. Vector registers are `ymm` where 32 bytes of one take part, else `xmm`. */
export type Bank = "gpr" | "seg" | "cr" | "dr" | "st" | "mm" | "xmm" | "ymm";

export type OperandKind = "reg" | "mem" | "imm" | "rel" | "far";

/**
 * One operand. All kinds share one shape, so that code which reads operands stays monomorphic; only the fields of its
 * `kind` mean anything.
 */
export class Operand {
  kind: OperandKind = "reg";
  /**
   * Bytes that the instruction reads or writes here: 4 for a float in an xmm register, 0 for an address that is only
   * computed or whose extent the instruction defines (lea, invlpg, xsave). An immediate's is that of the value after
   * its extension.
   */
  size = 0;

  /** reg: the register file; mem: the file of `index` (`gpr`, or the vector of a gather). */
  bank: Bank = "gpr";
  /** reg: number in its file. AH, CH, DH and BH are 0 to 3 with `high` set. */
  reg = 0;
  high = false;

  /** mem: general register or -1. With `ripRelative` it is -1 and `disp` counts from the instruction's end. */
  base = -1;
  /** mem: register or -1, scaled by `1 << scale`. */
  index = -1;
  scale = 0;
  /** mem: the displacement as two signed halves; only an absolute 64-bit address has more than the sign in the upper. */
  disp = 0;
  dispHigh = 0;
  ripRelative = false;
  /** mem: the segment register of this access, by default or by override. */
  segment: number = SegmentRegister.DS;

  /**
   * imm: the value extended to 64 bits as the instruction wants, as two signed halves. rel: signed distance from the
   * instruction's end, in `value`. far: the offset as an unsigned number in `value`, beside `selector`.
   */
  value = 0;
  valueHigh = 0;
  selector = 0;

  /** imm: the value as one signed number of 64 bits. */
  get value64(): bigint {
    return (BigInt(this.valueHigh) << 32n) | BigInt(this.value >>> 0);
  }
  /** mem: the displacement as one signed number of 64 bits. */
  get disp64(): bigint {
    return (BigInt(this.dispHigh) << 32n) | BigInt(this.disp >>> 0);
  }
}

/** No instruction has more operands than this. */
export const MAX_OPERANDS = 4;

export class Instruction {
  /** The table's line that the encoding matched. Its identity is stable: `form.id` indexes `FORMS`. */
  form!: Form;
  /** Bytes, at most 15. */
  length = 0;
  /** The code size that it was decoded for. */
  bits: CodeSize = 64;
  /** 16, 32 or 64 after prefixes and defaults; what stack and string instructions and far transfers go by. */
  operandSize = 32;
  /** 16, 32 or 64; what memory operands wrap at and what loop, jcxz and string instructions count in. */
  addressSize = 64;
  /** LOCK was given, and this instruction with these operands allows it. */
  lock = false;
  /** The last of 0xF2 and 0xF3, or 0. Also set where it only selected the instruction. */
  rep: 0 | 0xf2 | 0xf3 = 0;
  /** The segment prefix that counts (in 64-bit mode only FS and GS do), or -1. Memory operands have it applied. */
  segmentOverride = -1;
  /** REX.W or VEX.W; false outside 64-bit mode unless VEX. */
  wide = false;
  /** VEX.L: 256-bit. */
  vexLong = false;
  operandCount = 0;
  readonly operands: readonly [Operand, Operand, Operand, Operand] = [
    new Operand(),
    new Operand(),
    new Operand(),
    new Operand(),
  ];
}
