/** What emitted code asks of the {@link VectorUnit}: an operation, with flags that say on what. */
export const UnitOperation = {
  ADD: 0,
  SUB: 1,
  MUL: 2,
  DIV: 3,
  SQRT: 4,
  /** Subtracts in even lanes, adds in odd ones. The last one of arithmetic. */
  ADD_SUB: 5,
  MIN: 6,
  MAX: 7,
  /** The argument is the predicate of CMPPS. */
  COMPARE: 8,
  /** COMISS and UCOMISS: the result is ZF, PF and CF in their places. */
  ORDERED: 9,
  UNORDERED: 10,
  /** The argument is the immediate of ROUNDPS. */
  ROUND: 11,
  RECIPROCAL: 12,
  RECIPROCAL_ROOT: 13,
  /** From the format that `DOUBLE` tells to the other one. */
  CONVERT: 14,
  /** To the format that `DOUBLE` tells. */
  FROM_INT32: 15,
  FROM_INT64: 16,
  /** From the format that `DOUBLE` tells; an argument of 1 truncates. */
  TO_INT32: 17,
  TO_INT64: 18,
  /**
   * PCMPxSTRI and PCMPxSTRM: see strings.ts. The argument is the immediate, in bits 8 to 15 the length of `a` and above
   * that of `b`. The result is an index or a mask; the flags, in their places in RFLAGS, are put behind it.
   */
  STRING_INDEX: 19,
  STRING_MASK: 20,
  /** `a * b` and the third vector added, rounded once. The argument says what is negated: {@link Negate}. */
  MULTIPLY_ADD: 21,
  /** Between singles and half-precision floats in the low words of lanes; the argument is the immediate of VCVTPS2PH. */
  FROM_HALF: 22,
  TO_HALF: 23,

  /** Makes the exceptions of operations with `HOLD` the instruction's. */
  COMMIT: 63,

  /** Flags: doubles instead of singles; only lane 0. */
  DOUBLE: 0x100,
  SCALAR: 0x200,
  /**
   * The exceptions wait for `COMMIT`: those of both halves of a 256-bit instruction come at once. Bits from
   * `STAGE_SHIFT` on say which of the instruction's operations this is, as those of an earlier one go first.
   */
  HOLD: 0x400,
  STAGE_SHIFT: 12,
} as const;

/** What `MULTIPLY_ADD` negates: the product, the addend in even lanes and in odd ones. */
export const Negate = { PRODUCT: 1, EVEN: 2, ODD: 4 } as const;
