/**
 * The instructions that programs use most, as emitted code for the cases that programs meet most: finite numbers, nothing
 * pending, nothing that is not masked but what never happens then. Whatever else there is, {@link Context.microcodeIf}
 * leaves to the microcode of the same name (table.ts), which does the instruction whole; the tests of this folder's
 * parent compare both with the processor. What has no meaning here is microcode always.
 */

import { State } from "../../cpu/layout.ts";
import type { Context, IntegerSize, Meaning } from "../../semantics/context.ts";
import { condition, setArithmeticFlags } from "../../semantics/flags.ts";
import { signExtend, zeroExtend } from "../../semantics/words.ts";
import type { I32, I64 } from "../../wasm/expr.ts";
import { c32, c64, i32, i64 } from "../../wasm/ops.ts";
import { CONTROL_ALWAYS, CONTROL_WRITABLE, Exception, Status } from "../layout.ts";
import { fromFloat, fromInteger, type Parts } from "./conversions.ts";
import type { X87Function } from "./functions.ts";
import { Stack } from "./stack.ts";

const TRUNCATE = c32(0xc00);

/** Registers of operands from `from` on: those that are read. */
function registers(c: Context, from = 0): I32[] {
  return c.operands.flatMap(({ kind }, index) => (kind === "st" && index >= from ? [c.stackRegister(index)] : []));
}

/** A float or, for mnemonics that say so, an integer in memory, as a register has it. */
function loaded(c: Context, index: number, isInteger: boolean): Parts {
  const size = c.operands[index]!.size as IntegerSize;
  const bits = c.let(c.read(index));
  if (isInteger) return fromInteger(c.code, signExtend(size, bits));
  const parts = fromFloat(size as 4 | 8, c.code, c.let(zeroExtend(size, bits)));
  c.microcodeIf(parts.special);
  return parts;
}

/** Where the second operand lies, perhaps by now. */
function second(c: Context, stack: Stack, isInteger: boolean): I32 {
  if (c.operands[1]!.kind !== "mem") return stack.address(c.stackRegister(1));
  const { significand, high } = loaded(c, 1, isInteger);
  stack.writeParts(stack.room, significand, high);
  return stack.room;
}

interface Arithmetic {
  readonly name: X87Function;
  /** The second operand goes before the first. */
  readonly reversed?: boolean;
}

const arithmetic: Record<string, Arithmetic> = {
  add: { name: "add" },
  sub: { name: "subtract" },
  subr: { name: "subtract", reversed: true },
  mul: { name: "multiply" },
  div: { name: "divide" },
  divr: { name: "divide", reversed: true },
};

/** The first operand becomes the result of both. */
function compute({ name, reversed = false }: Arithmetic, pops: 0 | 1, isInteger = false): Meaning {
  return (c) => {
    const stack = new Stack(c, registers(c));
    const source = second(c, stack, isInteger);
    const to = stack.address(c.stackRegister(0));
    const status = reversed ? stack.compute(name, source, to, to) : stack.compute(name, to, source, to);
    stack.pop(pops);
    stack.finish(status);
  };
}

/** ST(0) becomes a function of itself. */
function change(name: X87Function): Meaning {
  return (c) => {
    const stack = new Stack(c, [0]);
    const top = stack.address(0);
    stack.finish(stack.compute(name, top, top, top));
  };
}

/** Changes the sign: whatever the register holds. */
function changeSign(change: (high: I32) => I32): Meaning {
  return (c) => {
    const stack = new Stack(c, [0]);
    stack.setHigh(0, change(stack.high(stack.address(0))));
    stack.finish();
  };
}

const load: Meaning = (c) => {
  const [operand] = c.operands as [(typeof c.operands)[number]];
  if (operand.kind === "st") {
    const from = c.stackRegister(0);
    const stack = new Stack(c, [from], true);
    stack.copy(stack.address(from), stack.address(-1));
    stack.push();
    stack.finish();
    return;
  }
  const stack = new Stack(c, [], true);
  if (operand.size === 10) {
    const linear = tenBytesAt(c, "read");
    const significand = c.let(c.load(8, linear)) as I64;
    const high = c.let(c.load(2, behind(c, linear))) as I32;
    stack.writeParts(stack.address(-1), significand, high);
  } else {
    const { significand, high } = loaded(c, 0, false);
    stack.writeParts(stack.address(-1), significand, high);
  }
  stack.push();
  stack.finish();
};

/** Ten bytes are two accesses, which must not end in different ways. */
function tenBytesAt(c: Context, access: "read" | "write") {
  const linear = c.linearAddress(0, access);
  c.microcodeIf(i32.gt_u(i32.and(i32.wrap(linear), c32(0xfff)), c32(0x1000 - 10)));
  return linear;
}

function behind(c: Context, linear: I64) {
  return c.code.let(i64.add(linear, c64(8)));
}

const loadInteger: Meaning = (c) => {
  const stack = new Stack(c, [], true);
  const { significand, high } = loaded(c, 0, true);
  stack.writeParts(stack.address(-1), significand, high);
  stack.push();
  stack.finish();
};

function loadConstant(high: number, significand: bigint): Meaning {
  return (c) => {
    const stack = new Stack(c, [], true);
    stack.writeParts(stack.address(-1), c64(significand), c32(high));
    stack.push();
    stack.finish();
  };
}

/** To memory as a float, or to a register. */
function store(pops: 0 | 1): Meaning {
  return (c) => {
    const [operand] = c.operands as [(typeof c.operands)[number]];
    const stack = new Stack(c, [0]);
    let status: I32 = c32(0);
    if (operand.kind === "st") {
      const to = c.stackRegister(0);
      stack.copy(stack.address(0), stack.address(to));
      stack.fill(to);
    } else if (operand.size === 10) {
      const linear = tenBytesAt(c, "write");
      const from = stack.address(0);
      c.store(8, linear, stack.significand(from));
      c.store(2, behind(c, linear), stack.high(from));
    } else {
      const from = stack.address(0);
      status = stack.compute(operand.size === 8 ? "toDouble" : "toSingle", from, from, stack.room);
      c.write(0, operand.size === 8 ? i64.load(stack.room) : i32.load(stack.room));
    }
    stack.pop(pops);
    stack.finish(status);
  };
}

function storeInteger(pops: 0 | 1, truncates = false): Meaning {
  return (c) => {
    const size = c.operands[0]!.size as IntegerSize;
    const stack = new Stack(c, [0]);
    const control = truncates ? i32.or(stack.control, TRUNCATE) : stack.control;
    const from = stack.address(0);
    const status = stack.compute("toInteger", from, from, stack.room, control);
    const wide = c.let(i64.load(stack.room));
    if (size === 8) c.write(0, wide);
    else {
      const narrow = size === 4 ? i64.extend32_s(wide) : i64.extend16_s(wide);
      c.microcodeIf(i64.ne(wide, narrow));
      c.write(0, size === 4 ? i32.wrap(wide) : i32.and(i32.wrap(wide), c32(0xffff)));
    }
    stack.pop(pops);
    stack.finish(status);
  };
}

const exchange: Meaning = (c) => {
  const other = c.stackRegister(1);
  const stack = new Stack(c, [0, other]);
  const [top, from] = [stack.address(0), stack.address(other)];
  const [significand, high] = [c.let(stack.significand(top)), c.let(stack.high(top))];
  stack.copy(from, top);
  stack.writeParts(from, significand, high);
  stack.finish();
};

/** Conditions 8 to 15 of FCMOV are those of PF. */
function moveIf(code: number): Meaning {
  return (c) => {
    const from = c.stackRegister(1);
    const stack = new Stack(c, [0, from]);
    c.code.if(condition(c, code), () => stack.copy(stack.address(from), stack.address(0)));
    stack.finishQuietly();
  };
}

/** Compares ST(0) with the second operand, or what `other` says: C0 is less, C3 equal. */
function compared(stack: Stack, other: I32): I32 {
  return stack.compute("compare", stack.address(0), other, stack.room);
}

function comparison(pops: 0 | 1, isInteger = false): Meaning {
  return (c) => {
    const stack = new Stack(c, [0, ...registers(c, 1)]);
    const codes = compared(stack, second(c, stack, isInteger));
    stack.pop(pops);
    stack.finish(undefined, codes);
  };
}

const comparisonOfTwo: Meaning = (c) => {
  const stack = new Stack(c, [0, 1]);
  const codes = compared(stack, stack.address(1));
  stack.pop(2);
  stack.finish(undefined, codes);
};

const test: Meaning = (c) => {
  const stack = new Stack(c, [0]);
  stack.writeParts(stack.room, c64(0), c32(0));
  stack.finish(undefined, compared(stack, stack.room));
};

function comparisonToFlags(pops: 0 | 1): Meaning {
  return (c) => {
    const stack = new Stack(c, [0, ...registers(c, 1)]);
    const codes = compared(stack, stack.address(c.stackRegister(1)));
    // C3 becomes ZF, C0 CF; the others are 0.
    setArithmeticFlags(c, i32.shr_u(codes, c32(8)));
    stack.pop(pops);
    stack.finishQuietly();
  };
}

const turn =
  (by: 1 | -1): Meaning =>
  (c) => {
    const stack = new Stack(c, []);
    stack.turn(by);
    stack.finish();
  };

const free: Meaning = (c) => {
  const stack = new Stack(c, []);
  stack.free(c.stackRegister(0));
  stack.finish();
};

const storeStatus: Meaning = (c) => {
  const word = i32.or(c.state32(State.fsw), i32.shl(c.state32(State.ftop), c32(Status.TOP_SHIFT)));
  c.write(0, c.let(word));
};

const storeControl: Meaning = (c) => c.write(0, c.state32(State.fcw));

/** Leaves it to microcode when flags would become pending. */
const loadControl: Meaning = (c) => {
  new Stack(c, []);
  const word = c.let(i32.or(i32.and(c.read(0) as I32, c32(CONTROL_WRITABLE)), c32(CONTROL_ALWAYS)));
  const flags = i32.and(c.state32(State.fsw), c32(Exception.ALL));
  c.microcodeIf(i32.and(flags, i32.xor(word, c32(-1))));
  c.setState32(State.fcw, word);
};

const table: Record<string, Meaning> = {
  fld: load,
  fild: loadInteger,
  fld1: loadConstant(0x3fff, 1n << 63n),
  fldz: loadConstant(0, 0n),
  fst: store(0),
  fstp: store(1),
  fist: storeInteger(0),
  fistp: storeInteger(1),
  fisttp: storeInteger(1, true),
  fxch: exchange,
  fchs: changeSign((high) => i32.xor(high, c32(0x8000))),
  fabs: changeSign((high) => i32.and(high, c32(0x7fff))),
  fsqrt: change("squareRoot"),
  frndint: change("roundToIntegral"),
  fcom: comparison(0),
  fcomp: comparison(1),
  fcompp: comparisonOfTwo,
  ficom: comparison(0, true),
  ficomp: comparison(1, true),
  fucom: comparison(0),
  fucomp: comparison(1),
  fucompp: comparisonOfTwo,
  fcomi: comparisonToFlags(0),
  fcomip: comparisonToFlags(1),
  fucomi: comparisonToFlags(0),
  fucomip: comparisonToFlags(1),
  ftst: test,
  fincstp: turn(1),
  fdecstp: turn(-1),
  ffree: free,
  fnstsw: storeStatus,
  fnstcw: storeControl,
  fldcw: loadControl,
};
for (const [name, operation] of Object.entries(arithmetic)) {
  table[`f${name}`] = compute(operation, 0);
  table[`f${name}p`] = compute(operation, 1);
  table[`fi${name}`] = compute(operation, 0, true);
}

/** Where control registers switch the unit off, microcode says so. */
const whereAvailable =
  (meaning: Meaning): Meaning =>
  (c) => {
    if (c.missing === undefined) meaning(c);
    else c.microcodeIf(c32(1));
  };

export const x87: Record<string, Meaning> = Object.fromEntries(
  Object.entries(table).map(([mnemonic, meaning]) => [mnemonic, whereAvailable(meaning)]),
);

export const floatMoveIf = (code: number): Meaning => whereAvailable(moveIf(code));
