/** Rounding in WebAssembly: what `round` of round.ts does with results that stay normal. */

import type { Code } from "../../wasm/code.ts";
import type { I32, I64, Local } from "../../wasm/expr.ts";
import { c32, c64, i32, i64, select } from "../../wasm/ops.ts";
import { Exception, Rounding, Status } from "../layout.ts";
import { give, NEVER } from "./value.ts";

const TOP = c64(-(2n ** 63n));

/** Whether to round a magnitude up: `rest` is what is cut off, its half on top; `odd` is 0 or 1. */
export function roundsUp(code: Code, control: I32, sign: I32, odd: I32, rest: I64): Local<"i32"> {
  const up = code.local("i32");
  const mode = code.let(i32.and(i32.shr_u(control, c32(10)), c32(3)));
  code.if(
    i32.eqz(mode),
    // To nearest: the half counts if anything is below it, or to make the result even.
    () => code.set(up, i64.gt_u(i64.or(rest, i64.extend_i32_u(odd)), TOP)),
    () => {
      const away = i32.eq(mode, i32.add(c32(Rounding.UP), i32.mul(sign, c32(Rounding.DOWN - Rounding.UP))));
      code.set(up, i32.and(away, i64.ne(rest, c64(0))));
    },
  );
  return up;
}

/** The status word's part in a rounding. Leaves the function when PE is not masked. */
export function statusOf(code: Code, control: I32, inexact: I32, up: I32): Local<"i32"> {
  const status = code.let(c32(0));
  code.if(inexact, () => {
    code.if(i32.eqz(i32.and(control, c32(Exception.PE))), () => code.return(NEVER), undefined, false);
    code.set(status, i32.or(c32(Exception.PE), i32.mul(up, c32(Status.C1))));
  });
  return status;
}

/** Of the control word: what there is beyond rounding 64 bits to nearest. Both 1 and 3 of the precision are all bits. */
const CUTS_OR_DIRECTS = 0xd00;
const ALL_64_BITS = 0x100;

/**
 * Ends a function with a result of 128 bits: a significand with its top bit set, the rest below it (of which the lowest bit
 * stands for anything lower), and the biased exponent. Leaves what overflows or is tiny to microcode.
 */
export function finish(code: Code, control: I32, to: I32, sign: I32, exponent: I32, high: I64, low: I64): void {
  const significand = code.let(high);
  const rest = code.let(low);
  const unit = code.let(c64(1));
  const up = code.local("i32");
  code.if(
    i32.eq(i32.and(control, c32(CUTS_OR_DIRECTS)), c32(ALL_64_BITS)),
    () => code.set(up, i64.gt_u(i64.or(rest, i64.and(significand, c64(1))), TOP)),
    () => {
      // Bits of the significand to be cut off, from the precision control: 0, 11 or 40.
      const precision = code.let(i32.and(i32.shr_u(control, c32(8)), c32(3)));
      code.if(i32.eqz(i32.and(precision, c32(1))), () => {
        const cut = code.let(i64.extend_i32_u(select(precision, c32(11), c32(40))));
        const jam = i64.extend_i32_u(i64.ne(rest, c64(0)));
        code.set(rest, i64.or(i64.shl(significand, i64.sub(c64(64), cut)), jam));
        code.set(unit, i64.shl(c64(1), cut));
        code.set(significand, i64.and(significand, i64.sub(c64(0), unit)));
      });
      const odd = i64.ne(i64.and(significand, unit), c64(0));
      code.set(up, roundsUp(code, control, sign, odd, rest));
    },
  );
  const biased = code.let(exponent);
  code.if(up, () => {
    code.set(significand, i64.add(significand, unit));
    code.if(i64.eqz(significand), () => {
      code.set(significand, TOP);
      code.set(biased, i32.add(biased, c32(1)));
    });
  });
  code.if(i32.ge_u(i32.sub(biased, c32(1)), c32(0x7ffe)), () => code.return(NEVER), undefined, false);
  const status = statusOf(code, control, i64.ne(rest, c64(0)), up);
  give(code, to, sign, biased, significand, status);
}
