/** Arithmetic and comparisons (Intel SDM vol. 1, 8.3.5 and 8.3.6). */

import { State } from "../cpu/layout.ts";
import { Flag } from "../cpu/state.ts";
import type { Instruction } from "../decode/instruction.ts";
import type { Microcode } from "../system/microcode.ts";
import { readOperand } from "../system/operands.ts";
import type { Processor } from "../system/processor.ts";
import {
  add,
  type Binary,
  compare,
  divide,
  multiply,
  type Ordering,
  reversed,
  squareRoot,
  subtract,
} from "./arithmetic.ts";
import { type FloatSize, fromFloat, fromInteger } from "./convert.ts";
import { type Float80, INDEFINITE, isNan, Kind, kindOf, negate, zero } from "./float80.ts";
import { Exception, Status } from "./layout.ts";
import { readInteger } from "./memory.ts";
import { extract, type Remainder, remainder, roundToIntegral, scale } from "./remainder.ts";
import { exactly, type Result, raising } from "./round.ts";
import {
  begin,
  conclude,
  control,
  deliver,
  isEmpty,
  OVERFLOW,
  pop,
  preventing,
  push,
  register,
  setRegister,
  UNDERFLOW,
  underflow,
} from "./unit.ts";

/** The second operand, or undefined when its register is empty. `denormal`: it was, in a format that does not show. */
function source(cpu: Processor, instruction: Instruction): { value: Float80; denormal: boolean } | undefined {
  const operand = instruction.operands[1];
  if (operand.kind === "mem") {
    if (instruction.form.mnemonic.startsWith("fi")) {
      return { value: fromInteger(readInteger(cpu, instruction, 1)), denormal: false };
    }
    return fromFloat(readOperand(cpu, instruction, 1), operand.size as FloatSize);
  }
  if (isEmpty(cpu, operand.reg)) return undefined;
  return { value: register(cpu, operand.reg), denormal: false };
}

/** Adds DE for a denormal operand in memory, where nothing goes before it. */
function alsoDenormal(flags: number, other: Float80): number {
  return isNan(kindOf(other)) || flags & (Exception.IE | Exception.ZE) ? flags : flags | Exception.DE;
}

/** The first operand becomes `operation` of both. */
function compute(operation: Binary, pops: 0 | 1 = 0): Microcode {
  return (cpu, instruction) => {
    begin(cpu);
    const to = instruction.operands[0].reg;
    const b = source(cpu, instruction);
    if (b === undefined || isEmpty(cpu, to)) {
      underflow(cpu, instruction, to, pops);
      return;
    }
    const a = register(cpu, to);
    const result = operation(a, b.value, control(cpu));
    const flags = b.denormal ? alsoDenormal(result.flags, a) : result.flags;
    deliver(cpu, instruction, { ...result, flags }, to, pops);
  };
}

/** ST(0) becomes `operation` of itself. */
export function change(operation: (value: Float80, control: number) => Result): Microcode {
  return (cpu, instruction) => {
    begin(cpu);
    if (isEmpty(cpu, 0)) underflow(cpu, instruction, 0);
    else deliver(cpu, instruction, operation(register(cpu, 0), control(cpu)), 0);
  };
}

const orderings: Record<Ordering, number> = {
  greater: 0,
  less: Status.C0,
  equal: Status.C3,
  unordered: Status.C0 | Status.C2 | Status.C3,
};

interface Compared {
  readonly ordering: Ordering;
  readonly flags: number;
}

function compareWith(cpu: Processor, b: { value: Float80; denormal: boolean } | undefined, quietly: boolean): Compared {
  if (b === undefined || isEmpty(cpu, 0)) return { ordering: "unordered", flags: UNDERFLOW };
  const a = register(cpu, 0);
  const { ordering, flags } = compare(a, b.value, quietly);
  return { ordering, flags: b.denormal ? alsoDenormal(flags, a) : flags };
}

/** Condition codes tell of a comparison whatever it raises; but an unmasked exception keeps it from popping. */
function finishComparison(cpu: Processor, instruction: Instruction, { ordering, flags }: Compared, pops: number): void {
  if (!preventing(cpu, flags)) pop(cpu, pops);
  conclude(cpu, instruction, flags, orderings[ordering]);
}

function comparison(quietly: boolean, pops: 0 | 1): Microcode {
  return (cpu, instruction) => {
    begin(cpu);
    finishComparison(cpu, instruction, compareWith(cpu, source(cpu, instruction), quietly), pops);
  };
}

/** FCOMPP and FUCOMPP: with ST(1), which the tables do not write. */
function comparisonOfTwo(quietly: boolean): Microcode {
  return (cpu, instruction) => {
    begin(cpu);
    const b = isEmpty(cpu, 1) ? undefined : { value: register(cpu, 1), denormal: false };
    finishComparison(cpu, instruction, compareWith(cpu, b, quietly), 2);
  };
}

const flagsOf: Record<Ordering, number> = {
  greater: 0,
  less: Flag.CF,
  equal: Flag.ZF,
  unordered: Flag.ZF | Flag.PF | Flag.CF,
};

/** FCOMI and its kin: to RFLAGS. */
function comparisonToFlags(quietly: boolean, pops: 0 | 1): Microcode {
  return (cpu, instruction) => {
    begin(cpu);
    const { ordering, flags } = compareWith(cpu, source(cpu, instruction), quietly);
    const cleared = Flag.CF | Flag.PF | Flag.AF | Flag.ZF | Flag.SF | Flag.OF;
    cpu.state.rflags = (cpu.state.rflags & ~cleared) | flagsOf[ordering];
    if (!preventing(cpu, flags)) pop(cpu, pops);
    // C1 stays, but for a stack fault.
    const kept = flags & Status.STACK_FAULT ? 0 : cpu.state.get32(State.fsw) & Status.C1;
    conclude(cpu, instruction, flags | kept);
  };
}

function test(cpu: Processor, instruction: Instruction): void {
  begin(cpu);
  finishComparison(cpu, instruction, compareWith(cpu, { value: zero(0), denormal: false }, false), 0);
}

const classes: Record<Kind, number> = {
  [Kind.UNSUPPORTED]: 0,
  [Kind.QUIET_NAN]: Status.C0,
  [Kind.SIGNALING_NAN]: Status.C0,
  [Kind.NORMAL]: Status.C2,
  [Kind.INFINITY]: Status.C2 | Status.C0,
  [Kind.ZERO]: Status.C3,
  [Kind.DENORMAL]: Status.C3 | Status.C2,
};

function examine(cpu: Processor, instruction: Instruction): void {
  begin(cpu);
  const value = register(cpu, 0);
  const found = isEmpty(cpu, 0) ? Status.C3 | Status.C0 : classes[kindOf(value)];
  conclude(cpu, instruction, 0, found | (value.sign === 1 ? Status.C1 : 0));
}

/** FPREM and FPREM1: C2 says that it is not done, C0, C3 and C1 are the low bits of the quotient. */
function partialRemainder(toNearest: boolean): Microcode {
  return (cpu, instruction) => {
    begin(cpu);
    const empty = isEmpty(cpu, 0) || isEmpty(cpu, 1);
    const { result, quotient, complete }: Remainder = empty
      ? { result: raising(INDEFINITE, UNDERFLOW), quotient: undefined, complete: true }
      : remainder(register(cpu, 0), register(cpu, 1), toNearest, control(cpu));
    const prevented = preventing(cpu, result.flags);
    if (!prevented) setRegister(cpu, 0, result.value);
    conclude(
      cpu,
      instruction,
      prevented || result.flags,
      remainderConditions(cpu, prevented ? undefined : quotient, complete),
    );
  };
}

/** Where there is no quotient, its bits C0 and C3 stay. */
function remainderConditions({ state }: Processor, quotient: number | undefined, complete: boolean): number {
  if (quotient === undefined) return state.get32(State.fsw) & (Status.C0 | Status.C3);
  if (!complete) return Status.C2;
  return (quotient & 1 ? Status.C1 : 0) | (quotient & 2 ? Status.C3 : 0) | (quotient & 4 ? Status.C0 : 0);
}

/** FSCALE takes its second operand from ST(1) and leaves it there. */
function scaleTop(cpu: Processor, instruction: Instruction): void {
  begin(cpu);
  if (isEmpty(cpu, 0) || isEmpty(cpu, 1)) underflow(cpu, instruction, 0);
  else deliver(cpu, instruction, scale(register(cpu, 0), register(cpu, 1), control(cpu)), 0);
}

/** Replaces ST(0) and pushes a second result. */
export function deliverTwo(
  cpu: Processor,
  instruction: Instruction,
  results: () => { below: Float80; above: Float80; flags: number; up?: boolean },
): void {
  const stack = isEmpty(cpu, 0) ? UNDERFLOW : isEmpty(cpu, -1) ? 0 : OVERFLOW;
  const { below, above, flags, up } = stack
    ? { below: INDEFINITE, above: INDEFINITE, flags: stack, up: false }
    : results();
  const prevented = preventing(cpu, flags);
  if (prevented) {
    conclude(cpu, instruction, prevented | (flags & Status.C1));
    return;
  }
  setRegister(cpu, 0, below);
  push(cpu, above);
  conclude(cpu, instruction, flags | (up ? Status.C1 : 0));
}

export const COMPUTATIONS: Record<string, Microcode> = {
  fadd: compute(add),
  faddp: compute(add, 1),
  fiadd: compute(add),
  fsub: compute(subtract),
  fsubp: compute(subtract, 1),
  fisub: compute(subtract),
  fsubr: compute(reversed(subtract)),
  fsubrp: compute(reversed(subtract), 1),
  fisubr: compute(reversed(subtract)),
  fmul: compute(multiply),
  fmulp: compute(multiply, 1),
  fimul: compute(multiply),
  fdiv: compute(divide),
  fdivp: compute(divide, 1),
  fidiv: compute(divide),
  fdivr: compute(reversed(divide)),
  fdivrp: compute(reversed(divide), 1),
  fidivr: compute(reversed(divide)),
  fsqrt: change(squareRoot),
  frndint: change(roundToIntegral),
  fchs: change((value) => exactly(negate(value))),
  fabs: change((value) => exactly({ ...value, sign: 0 })),
  fprem: partialRemainder(false),
  fprem1: partialRemainder(true),
  fscale: scaleTop,
  fxtract: (cpu, instruction) => {
    begin(cpu);
    deliverTwo(cpu, instruction, () => extract(register(cpu, 0)));
  },
  fcom: comparison(false, 0),
  fcomp: comparison(false, 1),
  fcompp: comparisonOfTwo(false),
  ficom: comparison(false, 0),
  ficomp: comparison(false, 1),
  fucom: comparison(true, 0),
  fucomp: comparison(true, 1),
  fucompp: comparisonOfTwo(true),
  fcomi: comparisonToFlags(false, 0),
  fcomip: comparisonToFlags(false, 1),
  fucomi: comparisonToFlags(true, 0),
  fucomip: comparisonToFlags(true, 1),
  ftst: test,
  fxam: examine,
};
