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
import type { VectorFunction } from "../../vector-unit/functions.ts";
import type { I32, I64, V128 } from "../../wasm/expr.ts";
import { c32, c64, i32, i64 } from "../../wasm/ops.ts";
import { i32x4, i64x2, v128 } from "../../wasm/simd.ts";
import { CONTROL_ALWAYS, CONTROL_WRITABLE, Exception, Status } from "../layout.ts";
import { Stack } from "./stack.ts";

const SIGN = i64x2.replace_lane(i64x2.splat(c64(0)), 1, c64(0x8000));
const TRUNCATE = c32(0xc00);

/** Registers of operands from `from` on: those that are read. */
function registers(c: Context, from = 0): I32[] {
  return c.operands.flatMap(({ kind }, index) => (kind === "st" && index >= from ? [c.stackRegister(index)] : []));
}

/** A float or, for mnemonics that say so, an integer in memory. */
function loaded(c: Context, stack: Stack, index: number, isInteger: boolean): V128 {
  const size = c.operands[index]!.size as IntegerSize;
  const bits = c.let(c.read(index));
  const [name, wide] = isInteger
    ? (["x87FromInteger", signExtend(size, bits)] as const)
    : ([size === 8 ? "x87FromDouble" : "x87FromSingle", zeroExtend(size, bits)] as const);
  return stack.compute(name, i64x2.splat(wide)).value;
}

function second(c: Context, stack: Stack, isInteger: boolean): V128 {
  return c.operands[1]!.kind === "mem" ? loaded(c, stack, 1, isInteger) : stack.read(c.stackRegister(1));
}

interface Arithmetic {
  readonly name: VectorFunction;
  /** The second operand goes before the first. */
  readonly reversed?: boolean;
  readonly negates?: boolean;
}

const arithmetic: Record<string, Arithmetic> = {
  add: { name: "x87Add" },
  sub: { name: "x87Add", negates: true },
  subr: { name: "x87Add", negates: true, reversed: true },
  mul: { name: "x87Multiply" },
  div: { name: "x87Divide" },
  divr: { name: "x87Divide", reversed: true },
};

/** The first operand becomes the result of both. */
function compute({ name, reversed = false, negates = false }: Arithmetic, pops: 0 | 1, isInteger = false): Meaning {
  return (c) => {
    const stack = new Stack(c, registers(c));
    const source = c.let(second(c, stack, isInteger));
    const to = c.stackRegister(0);
    const destination = stack.read(to);
    const [left, right] = reversed ? [source, destination] : [destination, source];
    const { value, status } = stack.compute(name, left, negates ? v128.xor(right, SIGN) : right);
    stack.write(to, value);
    stack.pop(pops);
    stack.finish(status);
  };
}

/** ST(0) becomes a function of itself. */
function change(name: VectorFunction): Meaning {
  return (c) => {
    const stack = new Stack(c, [0]);
    const { value, status } = stack.compute(name, stack.read(0));
    stack.write(0, value);
    stack.finish(status);
  };
}

/** Changes the sign: whatever the register holds. */
function changeSign(change: (high: I32) => I32): Meaning {
  return (c) => {
    const stack = new Stack(c, [0]);
    const high = c.let(change(stack.readHigh(0)));
    stack.writeParts(0, i64x2.extract_lane(stack.read(0), 0), high);
    stack.finish();
  };
}

const load: Meaning = (c) => {
  const [operand] = c.operands as [(typeof c.operands)[number]];
  if (operand.kind === "st") {
    const from = c.stackRegister(0);
    const stack = new Stack(c, [from], true);
    stack.write(-1, stack.read(from));
    stack.push();
    stack.finish();
    return;
  }
  const stack = new Stack(c, [], true);
  if (operand.size === 10) {
    const linear = tenBytesAt(c, "read");
    const significand = c.let(c.load(8, linear)) as I64;
    const high = c.let(c.load(2, behind(c, linear))) as I32;
    stack.writeParts(-1, significand, high);
  } else {
    stack.write(-1, loaded(c, stack, 0, false));
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
  stack.write(-1, loaded(c, stack, 0, true));
  stack.push();
  stack.finish();
};

function loadConstant(high: number, significand: bigint): Meaning {
  return (c) => {
    const stack = new Stack(c, [], true);
    stack.writeParts(-1, c64(significand), c32(high));
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
      stack.write(to, stack.read(0));
      stack.fill(to);
    } else if (operand.size === 10) {
      const linear = tenBytesAt(c, "write");
      c.store(8, linear, i64x2.extract_lane(stack.read(0), 0));
      c.store(2, behind(c, linear), stack.readHigh(0));
    } else {
      const result = stack.compute(operand.size === 8 ? "x87ToDouble" : "x87ToSingle", stack.read(0));
      status = result.status;
      c.write(0, operand.size === 8 ? i64x2.extract_lane(result.value, 0) : i32x4.extract_lane(result.value, 0));
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
    const { value, status } = stack.compute("x87ToInteger", stack.read(0), undefined, control);
    const wide = c.let(i64x2.extract_lane(value, 0));
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
  const top = c.let(stack.read(0));
  stack.write(0, stack.read(other));
  stack.write(other, top);
  stack.finish();
};

/** Conditions 8 to 15 of FCMOV are those of PF. */
function moveIf(code: number): Meaning {
  return (c) => {
    const from = c.stackRegister(1);
    const stack = new Stack(c, [0, from]);
    c.code.if(condition(c, code), () => stack.write(0, stack.read(from)));
    stack.finishQuietly();
  };
}

/** Compares ST(0) with the second operand, or what `other` says: C0 is less, C3 equal. */
function compared(c: Context, stack: Stack, other: V128): I32 {
  const { value } = stack.compute("x87Compare", stack.read(0), other);
  return c.let(i32x4.extract_lane(value, 0));
}

function comparison(pops: 0 | 1, isInteger = false): Meaning {
  return (c) => {
    const stack = new Stack(c, [0, ...registers(c, 1)]);
    const codes = compared(c, stack, second(c, stack, isInteger));
    stack.pop(pops);
    stack.finish(undefined, codes);
  };
}

const comparisonOfTwo: Meaning = (c) => {
  const stack = new Stack(c, [0, 1]);
  const codes = compared(c, stack, stack.read(1));
  stack.pop(2);
  stack.finish(undefined, codes);
};

const test: Meaning = (c) => {
  const stack = new Stack(c, [0]);
  stack.finish(undefined, compared(c, stack, i64x2.splat(c64(0))));
};

function comparisonToFlags(pops: 0 | 1): Meaning {
  return (c) => {
    const stack = new Stack(c, [0, ...registers(c, 1)]);
    const codes = compared(c, stack, stack.read(c.stackRegister(1)));
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
  fsqrt: change("x87SquareRoot"),
  frndint: change("x87RoundToIntegral"),
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
