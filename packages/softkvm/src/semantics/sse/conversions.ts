/** Comparisons, conversions and rounding of floats: Intel SDM vol. 2. How they are exact: see lanes.ts. */

import { UnitOperation } from "../../vector-unit/operations.ts";
import type { F32, F64, I32, I64, Local, V128 } from "../../wasm/expr.ts";
import { c32, f32, f64, i32, i64 } from "../../wasm/ops.ts";
import { f32x4, f64x2, i32x4, i64x2, splat, v128 } from "../../wasm/simd.ts";
import type { IntegerSize, Meaning, Value } from "../context.ts";
import { setComparison } from "../flags.ts";
import { rarely, unitOnLowest, unlessRegular } from "./checked.ts";
import { quietPair } from "./floats.ts";
import {
  type FloatSize,
  holds,
  inexactIsQuiet,
  type Lanes,
  lanesOf,
  normal,
  plain,
  roundsToNearest,
  unless,
} from "./lanes.ts";
import { fromInteger } from "./moves.ts";
import { alsoMmx, enterMmx, isMmx, lanes, ones, zeros } from "./vectors.ts";

const { SCALAR } = UnitOperation;

/** The predicates of CMPPS, and half of those of VCMPPS, on numbers that are none of them NaN. */
const predicates: readonly ((of: Lanes["of"], a: V128, b: V128) => V128)[] = [
  (of, a, b) => of.eq(a, b),
  (of, a, b) => of.lt(a, b),
  (of, a, b) => of.le(a, b),
  zeros,
  (of, a, b) => of.ne(a, b),
  (of, a, b) => of.ge(a, b),
  (of, a, b) => of.gt(a, b),
  ones,
  (of, a, b) => of.eq(a, b),
  (of, a, b) => of.lt(a, b),
  (of, a, b) => of.le(a, b),
  zeros,
  (of, a, b) => of.ne(a, b),
  (of, a, b) => of.ge(a, b),
  (of, a, b) => of.gt(a, b),
  ones,
];
/** The other half differs in whether quiet NaNs raise exceptions. */
const RELATION = 0xf;

function compare(size: FloatSize): Meaning {
  const format = lanesOf(size);
  return (c) => {
    const scalar = c.operands[0]!.size === size;
    const b = c.let(c.readVector(1));
    const a = c.let(c.readVector(0));
    const predicate = c.immediate(2);
    const code = UnitOperation.COMPARE | format.flag | (scalar ? SCALAR : 0);
    const exact = () => c.vectorUnit(code, a, b, c32(predicate));
    c.writeVector(
      0,
      unless(c, quietPair(format, scalar, a, b), predicates[predicate & RELATION]!(format.of, a, b), exact),
    );
  };
}

/** COMISx and UCOMISx: ZF for equal, CF for less, all of ZF, PF and CF for unordered. */
function compareToFlags(operation: number, size: FloatSize): Meaning {
  const of = size === 4 ? f32 : f64;
  return (c) => {
    const { code } = c;
    const b = c.let(c.readFloat(1, size)) as F32 & F64;
    const a = c.let(c.readFloat(0, size)) as F32 & F64;
    const zero = code.local("i32");
    const carry = code.local("i32");
    const unordered = code.let(c32(0));
    rarely(
      c,
      (rare) => {
        if (!c.isRegular(0, size === 4 ? "f32" : "f64")) unlessRegular(c, size, a, rare);
        if (!c.isRegular(1, size === 4 ? "f32" : "f64")) unlessRegular(c, size, b, rare);
        code.set(zero, of.eq(a, b));
        code.set(carry, of.lt(a, b));
      },
      () => {
        const flags = c.let(i32x4.extract_lane(unitOnLowest(c, operation, size, a, b), 0));
        code.set(carry, i32.and(flags, c32(1)));
        code.set(unordered, i32.and(i32.shr_u(flags, c32(2)), c32(1)));
        code.set(zero, i32.and(i32.shr_u(flags, c32(6)), c32(1)));
      },
    );
    setComparison(c, zero, carry, unordered);
  };
}

/** ROUNDPx: bits 0 and 1 of the immediate say how unless bit 2 leaves it to MXCSR; bit 3 keeps PE quiet. */
function round(size: FloatSize): Meaning {
  const format = lanesOf(size);
  const { of } = format;
  return (c) => {
    const scalar = c.operands[0]!.size === size;
    const imm = c.immediate(2);
    const byMxcsr = (imm & 4) !== 0;
    const quiet = (imm & 8) !== 0;
    const a = c.let(c.readVector(1));
    const how = byMxcsr ? of.nearest : [of.nearest, of.floor, of.ceil, of.trunc][imm & 3]!;
    const rounded = c.let(how(a));
    const same = () => holds(format, scalar, of.eq(rounded, a));
    const unnoticed = () => {
      if (quiet) return byMxcsr ? roundsToNearest(c) : c32(1);
      return i32.or(inexactIsQuiet(c, byMxcsr ? "nearest" : "any"), same());
    };
    const code = UnitOperation.ROUND | format.flag | (scalar ? SCALAR : 0);
    const fine = () => i32.and(holds(format, scalar, plain(format, a)), unnoticed());
    c.writeVector(
      0,
      unless(c, [fine], rounded, () => c.vectorUnit(code, a, a, c32(imm))),
    );
  };
}

/** CVTPS2PD and CVTSS2SD: exact, but for denormal numbers and NaNs. */
const widen: Meaning = (c) => {
  const scalar = c.operands[0]!.size === 8;
  const a = c.let(c.readVector(1));
  // The upper half counts for nothing.
  const numbers = c.operands[1]!.size === 16 ? c.let(lanes(8, a, zeros(), [0, 2])) : a;
  c.writeVector(
    0,
    unless(c, [() => i32x4.all_true(plain(lanesOf(4), numbers))], f64x2.promote_low_f32x4(a), () =>
      c.vectorUnit(UnitOperation.CONVERT | (scalar ? SCALAR : 0), a, a),
    ),
  );
};

/** CVTPD2PS and CVTSD2SS. */
const narrow: Meaning = (c) => {
  const scalar = c.operands[0]!.size === 4;
  const format = lanesOf(8);
  const a = c.let(c.readVector(1));
  const result = c.let(f32x4.demote_f64x2_zero(a));
  // What is a normal single is found by way of its double, whose lanes are those of the operand.
  const size = f64x2.abs(c.let(f64x2.promote_low_f32x4(result)));
  const leastSingle = { ...format, least: splat(8, 0x3810000000000000n) };
  const inRange = v128.or(v128.and(normal(leastSingle, size), plain(format, a)), f64x2.eq(a, zeros()));
  c.writeVector(
    0,
    unless(c, [() => i32.and(inexactIsQuiet(c), holds(format, scalar, inRange))], result, () =>
      c.vectorUnit(UnitOperation.CONVERT | UnitOperation.DOUBLE | (scalar ? SCALAR : 0), a, a),
    ),
  );
};

/** CVTSI2SS and CVTSI2SD: a double holds any integer of 32 bits. */
function fromGeneral(size: FloatSize): Meaning {
  return (c) => {
    const from = c.operands[1]!.size as IntegerSize;
    const value = c.let(c.read(1));
    const wide = from === 8;
    const of = size === 4 ? f32 : f64;
    const result = c.code.let(wide ? of.convert_i64_s(value as I64) : of.convert_i32_s(value as I32)) as Local<"f32"> &
      Local<"f64">;
    if (size === 4 || wide) {
      const operation = wide ? UnitOperation.FROM_INT64 : UnitOperation.FROM_INT32;
      const exact = () => {
        const vector = fromInteger(from, value);
        const converted = c.vectorUnit(operation | lanesOf(size).flag | SCALAR, vector, vector);
        c.code.set(result, (size === 4 ? f32x4 : f64x2).extract_lane(converted, 0) as F32 & F64);
      };
      c.code.if(i32.eqz(c.floatGuard(size).scalarMask), exact, undefined, false);
    }
    c.writeFloat(0, size, result);
    c.setRegular(0, size === 4 ? "f32" : "f64");
  };
}

/** CVTDQ2PS and CVTPI2PS: which leaves the upper half. */
const integersToSingles: Meaning = (c) => {
  const a = c.let(c.readVector(1));
  if (isMmx(c)) enterMmx(c);
  const exact = () => c.vectorUnit(UnitOperation.FROM_INT32, a, a);
  const result = unless(c, [() => inexactIsQuiet(c)], f32x4.convert_i32x4_s(a), exact);
  const half = c.operands[1]!.size === 8;
  c.writeVector(0, half ? lanes(8, result, c.readVector(0), [0, 3]) : result);
};

const integersToDoubles: Meaning = (c) => c.writeVector(0, f64x2.convert_low_i32x4_s(c.readVector(1)));

/** CVTxS2SI and CVTTxS2SI: out of range, a one and zeros. */
function toGeneral(size: FloatSize, rounding: "nearest" | "truncate"): Meaning {
  const of = size === 4 ? f32 : f64;
  return (c) => {
    const { code } = c;
    const wide = c.operands[0]!.size === 8;
    const a = c.let(c.readFloat(1, size)) as F32 & F64;
    const rounded = c.let((rounding === "nearest" ? of.nearest : of.trunc)(a) as F32 & F64);
    const integers = wide ? i64 : i32;
    const truncation = (size === 4 ? integers.trunc_f32_s : integers.trunc_f64_s) as (a: F32 & F64) => Value;
    const limit = of.const(wide ? 2 ** 63 : 2 ** 31) as F32 & F64;
    const result = code.local<"i32" | "i64">(wide ? "i64" : "i32");
    rarely(
      c,
      (rare) => {
        code.brIf(rare, i32.eqz(of.lt(of.abs(rounded) as F32 & F64, limit)), false);
        // What is rounded is of no matter where an inexact result is not.
        code.if(i32.eqz(c.floatGuard(size).scalarMask), () => code.brIf(rare, of.ne(rounded, a)), undefined, false);
        code.set<"i32" | "i64">(result, truncation(rounded));
      },
      () => {
        const operation = wide ? UnitOperation.TO_INT64 : UnitOperation.TO_INT32;
        const exact = unitOnLowest(c, operation, size, a, a, c32(rounding === "truncate" ? 1 : 0));
        code.set<"i32" | "i64">(result, wide ? i64x2.extract_lane(exact, 0) : i32x4.extract_lane(exact, 0));
      },
    );
    c.write(0, result as Value);
  };
}

/** CVTPS2DQ and CVTPD2DQ, their truncating kin, and those to mm registers. */
function toIntegers(size: FloatSize, rounding: "nearest" | "truncate"): Meaning {
  const format = lanesOf(size);
  const { of } = format;
  return (c) => {
    const source = c.let(c.readVector(1));
    // An unmasked exception leaves the x87 state changed already.
    if (isMmx(c)) enterMmx(c);
    // Of two singles for an mm register the others are 0, and raise nothing.
    const a = c.let(isMmx(c) && size === 4 ? lanes(8, source, zeros(), [0, 2]) : source);
    const rounded = c.let((rounding === "nearest" ? of.nearest : of.trunc)(a));
    const limit = size === 4 ? splat(4, 0x4f000000) : splat(8, 0x41e0000000000000n);
    const inRange = () => format.allTrue(of.lt(of.abs(rounded), limit));
    const unnoticed = () =>
      i32.or(inexactIsQuiet(c, rounding === "nearest" ? "nearest" : "any"), format.allTrue(of.eq(rounded, a)));
    const result = size === 4 ? i32x4.trunc_sat_f32x4_s(rounded) : i32x4.trunc_sat_f64x2_s_zero(rounded);
    const code = UnitOperation.TO_INT32 | format.flag;
    c.writeVector(
      0,
      unless(c, [() => i32.and(inRange(), unnoticed())], result, () =>
        c.vectorUnit(code, a, a, c32(rounding === "truncate" ? 1 : 0)),
      ),
    );
  };
}

export const conversions: Record<string, Meaning> = {
  ...{ cmpps: compare(4), cmpss: compare(4), cmppd: compare(8), cmpsd: compare(8) },
  comiss: compareToFlags(UnitOperation.ORDERED, 4),
  comisd: compareToFlags(UnitOperation.ORDERED, 8),
  ucomiss: compareToFlags(UnitOperation.UNORDERED, 4),
  ucomisd: compareToFlags(UnitOperation.UNORDERED, 8),

  ...{ roundps: round(4), roundss: round(4), roundpd: round(8), roundsd: round(8) },

  ...{ cvtps2pd: widen, cvtss2sd: widen, cvtpd2ps: narrow, cvtsd2ss: narrow },
  ...{ cvtsi2ss: fromGeneral(4), cvtsi2sd: fromGeneral(8) },
  ...{ cvtss2si: toGeneral(4, "nearest"), cvttss2si: toGeneral(4, "truncate") },
  ...{ cvtsd2si: toGeneral(8, "nearest"), cvttsd2si: toGeneral(8, "truncate") },
  ...{ cvtps2dq: toIntegers(4, "nearest"), cvttps2dq: toIntegers(4, "truncate") },
  ...{ cvtpd2dq: toIntegers(8, "nearest"), cvttpd2dq: toIntegers(8, "truncate") },
  ...{ cvtdq2ps: integersToSingles, cvtdq2pd: integersToDoubles },
  ...alsoMmx({
    ...{ cvtps2pi: toIntegers(4, "nearest"), cvttps2pi: toIntegers(4, "truncate") },
    ...{ cvtpd2pi: toIntegers(8, "nearest"), cvttpd2pi: toIntegers(8, "truncate") },
    ...{ cvtpi2ps: integersToSingles, cvtpi2pd: integersToDoubles },
  }),
};
