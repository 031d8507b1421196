/**
 * MOVS, STOS, LODS, CMPS, SCAS with their REP prefixes: Intel SDM vol. 2, "REP/REPE/REPZ/REPNE/REPNZ". Every element is
 * complete before the next begins, so a fault or an interrupt leaves the registers at an element's boundary.
 */

import { Budget } from "../cpu/budget.ts";
import { Flag } from "../cpu/state.ts";
import type { I32, I64, Local } from "../wasm/expr.ts";
import { c32, c64, i32, i64, select } from "../wasm/ops.ts";
import { type Access, type Context, Gpr, type IntegerSize, type Meaning, type Value } from "./context.ts";
import { flagsOfSub } from "./flags.ts";
import { truncate, word, zeroExtend } from "./words.ts";

const PAGE = 4096;

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

/**
 * With 32-bit addresses in 64-bit code, Intel's processors clear the upper halves of the registers that they count with
 * when a repeated instruction begins, even when nothing is repeated or the first element faults.
 */
function clearUpperHalves(c: Context, ...registers: number[]): void {
  if (c.bits !== 64 || c.addressSize !== 4) return;
  for (const register of [Gpr.RCX, ...registers]) c.setGpr(register, 4, c.gpr(register, 4));
}

/** Repeats an element by the prefix. `indexes`: see {@link clearUpperHalves}. */
function repeated(element: (c: Context, step: I32) => void, ...indexes: number[]): Meaning {
  return (c) => {
    const step = stepOf(c);
    if (c.rep === 0) {
      element(c, step);
      return;
    }
    clearUpperHalves(c, ...indexes);
    const size = c.addressSize;
    const w = word(size);
    const count = () => c.gpr(Gpr.RCX, size);
    c.code.if(w.ne(count(), w.const(0)), () => {
      c.repeatWhile(() => {
        element(c, step);
        const left = c.let(truncate(size, w.sub(count(), w.const(1))));
        c.setGpr(Gpr.RCX, size, left);
        return w.ne(left, w.const(0));
      });
    });
  };
}

/**
 * CMPS and SCAS set the flags once, after the last element: where one faults, the flags are as before the instruction
 * (SDM vol. 2, "REP"). `pair` reads an element's two values and advances.
 */
function compared(pair: (c: Context, step: I32) => [Value, Value]): Meaning {
  return (c) => {
    const size = elementSize(c);
    const step = stepOf(c);
    if (c.rep === 0) {
      compareElements(c, ...pair(c, step));
      return;
    }
    clearUpperHalves(c);
    const w = word(c.addressSize);
    const type = size === 8 ? "i64" : "i32";
    const [left, right] = [c.code.local(type), c.code.local(type)] as [Value & Local, Value & Local];
    const count = () => c.gpr(Gpr.RCX, c.addressSize);
    c.code.if(w.ne(count(), w.const(0)), () => {
      c.repeatWhile(() => {
        const [a, b] = pair(c, step);
        c.code.set(left as never, a as never);
        c.code.set(right as never, b as never);
        const rest = c.let(truncate(c.addressSize, w.sub(count(), w.const(1))));
        c.setGpr(Gpr.RCX, c.addressSize, rest);
        const goOn = c.rep === 0xf3 ? word(size).eq(left, right) : word(size).ne(left, right);
        return i32.and(w.ne(rest, w.const(0)), goOn);
      });
      compareElements(c, left, right);
    });
  };
}

function movs(c: Context, step: I32): void {
  const size = elementSize(c);
  const value = c.let(c.load(size, at(c, Gpr.RSI, "operand", "read")));
  c.store(size, at(c, Gpr.RDI, ES, "write"), value);
  advance(c, Gpr.RSI, step);
  advance(c, Gpr.RDI, step);
}

function stos(c: Context, step: I32): void {
  const size = elementSize(c);
  c.store(size, at(c, Gpr.RDI, ES, "write"), c.let(c.gpr(Gpr.RAX, size)));
  advance(c, Gpr.RDI, step);
}

/**
 * REP STOS and REP MOVS in 64-bit code: as many elements at once as `ahead` can do, which are in one page, else one.
 * Systems clear and copy their memory with them. `ahead` gets how many bytes at most it is to do, and says how many it has
 * done; it is asked upwards only.
 */
function inBulk(
  element: (c: Context, step: I32) => void,
  indexes: readonly number[],
  ahead: (c: Context, bytes: Local<"i32">) => Local<"i32">,
): Meaning {
  return (c) => {
    const log2 = Math.log2(elementSize(c));
    const { code } = c;
    const step = stepOf(c);
    const count = () => c.gpr(Gpr.RCX, 8) as I64;
    code.if(i64.ne(count(), c64(0)), () => {
      const cost = code.let(c32(1));
      const elements = code.local("i64");
      c.repeatWhile(() => {
        code.set(elements, c64(0));
        code.set(cost, c32(1));
        code.if(i32.gt_s(step, c32(0)), () => {
          const most = select(i64.lt_u(count(), c64(PAGE)), count(), c64(PAGE));
          const bytes = ahead(c, code.let(i32.shl(i32.wrap(most), c32(log2))));
          code.set(elements, i64.extend_i32_u(i32.shr_u(bytes, c32(log2))));
          code.set(cost, i32.add(i32.shr_u(bytes, c32(Math.log2(Budget.bulkBytes))), c32(1)));
          for (const index of indexes) c.setGpr(index, 8, i64.add(c.gpr(index, 8) as I64, i64.extend_i32_u(bytes)));
        });
        code.if(i64.eqz(elements), () => {
          element(c, step);
          code.set(elements, c64(1));
        });
        const left = c.let(i64.sub(count(), elements) as Value) as I64;
        c.setGpr(Gpr.RCX, 8, left);
        return i64.ne(left, c64(0));
      }, cost);
    });
  };
}

/** Of so many bytes those of whole elements in the page of `linear`: one that reaches into the next goes by itself. */
function wholeIn(c: Context, linear: I64, bytes: I32): Local<"i32"> {
  const room = i32.sub(c32(PAGE), i32.and(i32.wrap(linear), c32(PAGE - 1)));
  const whole = c.code.let(i32.and(room, c32(-elementSize(c))));
  return c.code.let(select(i32.lt_u(bytes, whole), bytes, whole));
}

/** Where one byte repeated is stored. */
const filled = inBulk(stos, [Gpr.RDI], (c, bytes) => {
  const size = elementSize(c);
  const value = c.let(c.gpr(Gpr.RAX, size));
  const isByte = size === 1 ? c32(1) : word(size).eq(value, word(size).const(0));
  const done = c.code.let(c32(0));
  c.code.if(isByte, () => {
    const linear = at(c, Gpr.RDI, ES, "write");
    c.code.set(done, c.fillAhead(linear, wholeIn(c, linear, bytes), size === 1 ? (value as I32) : c32(0)));
  });
  return done;
});

/** A few bytes are sooner copied by themselves. */
const LEAST_COPY = 64;

const copied = inBulk(movs, [Gpr.RSI, Gpr.RDI], (c, bytes) => {
  const done = c.code.let(c32(0));
  c.code.if(i32.ge_u(bytes, c32(LEAST_COPY)), () => {
    const from = at(c, Gpr.RSI, "operand", "read");
    const to = at(c, Gpr.RDI, ES, "write");
    c.code.set(done, c.copyAhead(to, from, wholeIn(c, to, wholeIn(c, from, bytes))));
  });
  return done;
});

/** With a prefix in 64-bit code. */
const isLong = (c: Context) => c.rep !== 0 && c.bits === 64 && c.addressSize === 8;

function compareElements(c: Context, a: Value, b: Value): void {
  const size = elementSize(c);
  flagsOfSub(c, size, a, b, c.let(truncate(size, word(size).sub(a, b))));
}

export const strings: Record<string, Meaning> = {
  movs: (c) => (isLong(c) ? copied : repeated(movs, Gpr.RSI, Gpr.RDI))(c),

  stos: (c) => (isLong(c) ? filled : repeated(stos, Gpr.RDI))(c),

  lods: repeated((c, step) => {
    const size = elementSize(c);
    const value = c.let(c.load(size, at(c, Gpr.RSI, "operand", "read")));
    c.setGpr(Gpr.RAX, size, value);
    advance(c, Gpr.RSI, step);
  }),

  cmps: compared((c, step) => {
    const size = elementSize(c);
    // Where both fault, it is the second that does.
    const b = c.let(c.load(size, at(c, Gpr.RDI, ES, "read")));
    const a = c.let(c.load(size, at(c, Gpr.RSI, "operand", "read")));
    advance(c, Gpr.RSI, step);
    advance(c, Gpr.RDI, step);
    return [a, b];
  }),

  scas: compared((c, step) => {
    const size = elementSize(c);
    const a = c.let(c.gpr(Gpr.RAX, size));
    const b = c.let(c.load(size, at(c, Gpr.RDI, ES, "read")));
    advance(c, Gpr.RDI, step);
    return [a, b];
  }),
};
