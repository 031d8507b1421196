/**
 * MOVS, STOS, LODS, CMPS, SCAS with their REP prefixes: Intel SDM vol. 2, "REP/REPE/REPZ/REPNE/REPNZ". Every element is
 * complete before the next begins, so a fault or an interrupt leaves the registers at an element's boundary.
 */

import { Flag } from "../cpu/state.ts";
import type { I32, Local } from "../wasm/expr.ts";
import { c32, i32, i64 } from "../wasm/ops.ts";
import { type Access, type Context, Gpr, type IntegerSize, type Meaning, type Value } from "./context.ts";
import { condition, flagsOfSub } from "./flags.ts";
import { truncate, word, zeroExtend } from "./words.ts";

/** ES: the destination's segment, which no prefix overrides. */
const ES = 0;

/** The element's size is that of the first operand. */
const elementSize = (c: Context) => c.operands[0]!.size as IntegerSize;

function at(c: Context, register: number, segment: number | "operand", access: Access): Local<"i64"> {
  return c.linear(segment, zeroExtend(c.addressSize, c.gpr(register, c.addressSize)), elementSize(c), access);
}

/** Moves an index register by one element, down with DF. */
function advance(c: Context, register: number, step: I32): void {
  const size = c.addressSize;
  const w = word(size);
  const by = (size === 8 ? i64.extend_i32_s(step) : step) as Value;
  c.setGpr(register, size, truncate(size, w.add(c.gpr(register, size), by)));
}

/** The element's size, negative with DF. */
function stepOf(c: Context): I32 {
  const size = elementSize(c);
  const down = i32.and(c.flagRest(), c32(Flag.DF));
  // DF is bit 10: from 1024 to twice the size.
  return c.let(i32.sub(c32(size), i32.shr_u(down, c32(9 - Math.log2(size)))));
}

/** Repeats an element by the prefix. `goOn` says after each whether the flags allow another (REPE, REPNE). */
function repeated(element: (c: Context, step: I32) => void, goOn?: (c: Context) => I32): Meaning {
  return (c) => {
    const step = stepOf(c);
    if (c.rep === 0) {
      element(c, step);
      return;
    }
    const size = c.addressSize;
    const w = word(size);
    const count = () => c.gpr(Gpr.RCX, size);
    c.code.if(w.ne(count(), w.const(0)), () => {
      c.repeatWhile(() => {
        element(c, step);
        const left = c.let(truncate(size, w.sub(count(), w.const(1))));
        c.setGpr(Gpr.RCX, size, left);
        const more = w.ne(left, w.const(0));
        return goOn === undefined ? more : i32.and(more, goOn(c));
      });
    });
  };
}

/** REPE goes on while ZF is set, REPNE while it is not. */
const whileFlag = (c: Context): I32 => condition(c, c.rep === 0xf3 ? 4 : 5);

function compareElements(c: Context, a: Value, b: Value): void {
  const size = elementSize(c);
  flagsOfSub(c, size, a, b, c.let(truncate(size, word(size).sub(a, b))));
}

export const strings: Record<string, Meaning> = {
  movs: repeated((c, step) => {
    const size = elementSize(c);
    const value = c.let(c.load(size, at(c, Gpr.RSI, "operand", "read")));
    c.store(size, at(c, Gpr.RDI, ES, "write"), value);
    advance(c, Gpr.RSI, step);
    advance(c, Gpr.RDI, step);
  }),

  stos: repeated((c, step) => {
    const size = elementSize(c);
    c.store(size, at(c, Gpr.RDI, ES, "write"), c.let(c.gpr(Gpr.RAX, size)));
    advance(c, Gpr.RDI, step);
  }),

  lods: repeated((c, step) => {
    const size = elementSize(c);
    const value = c.let(c.load(size, at(c, Gpr.RSI, "operand", "read")));
    c.setGpr(Gpr.RAX, size, value);
    advance(c, Gpr.RSI, step);
  }),

  cmps: repeated((c, step) => {
    const size = elementSize(c);
    const a = c.let(c.load(size, at(c, Gpr.RSI, "operand", "read")));
    const b = c.let(c.load(size, at(c, Gpr.RDI, ES, "read")));
    advance(c, Gpr.RSI, step);
    advance(c, Gpr.RDI, step);
    compareElements(c, a, b);
  }, whileFlag),

  scas: repeated((c, step) => {
    const size = elementSize(c);
    const a = c.let(c.gpr(Gpr.RAX, size));
    const b = c.let(c.load(size, at(c, Gpr.RDI, ES, "read")));
    advance(c, Gpr.RDI, step);
    compareElements(c, a, b);
  }, whileFlag),
};
