/** Loads, stores, constants, moves between registers (Intel SDM vol. 1, 8.3.3 and 8.3.4). */

import { Flag } from "../cpu/state.ts";
import type { Instruction } from "../decode/instruction.ts";
import type { Microcode } from "../system/microcode.ts";
import { readOperand } from "../system/operands.ts";
import type { Processor } from "../system/processor.ts";
import {
  type FloatSize,
  fromFloat,
  fromInteger,
  fromPacked,
  type Stored,
  toFloat,
  toInteger,
  toPacked,
} from "./convert.ts";
import { type Float80, INDEFINITE, Kind, kindOf, one, quiet, zero } from "./float80.ts";
import { Exception, Rounding, roundingOf, Status } from "./layout.ts";
import { fromBits, readInteger, readTen, toBits, writeBits } from "./memory.ts";
import {
  begin,
  conclude,
  control,
  deliver,
  deliverAbove,
  free,
  isEmpty,
  notePointer,
  pop,
  preventing,
  register,
  rotate,
  setRegister,
  UNDERFLOW,
  underflow,
} from "./unit.ts";

function load(cpu: Processor, instruction: Instruction): void {
  begin(cpu);
  const [operand] = instruction.operands;
  if (operand.kind === "reg") {
    if (isEmpty(cpu, operand.reg)) deliverAbove(cpu, instruction, INDEFINITE, UNDERFLOW);
    else deliverAbove(cpu, instruction, register(cpu, operand.reg));
    return;
  }
  if (operand.size === 10) {
    deliverAbove(cpu, instruction, fromBits(readTen(cpu, instruction, 0)));
    return;
  }
  const { value, denormal } = fromFloat(readOperand(cpu, instruction, 0), operand.size as FloatSize);
  if (kindOf(value) === Kind.SIGNALING_NAN) deliverAbove(cpu, instruction, quiet(value), Exception.IE);
  else deliverAbove(cpu, instruction, value, denormal ? Exception.DE : 0, true);
}

/** A constant with more bits than are kept: the significand cut off, and which modes round it up. */
function constant(exponent: number, significand: bigint, ...roundedUp: Rounding[]): Microcode {
  return (cpu, instruction) => {
    begin(cpu);
    const up = roundedUp.includes(roundingOf(control(cpu)));
    deliverAbove(cpu, instruction, { sign: 0, exponent, significand: up ? significand + 1n : significand });
  };
}

const exactConstant =
  (value: Float80): Microcode =>
  (cpu, instruction) => {
    begin(cpu);
    deliverAbove(cpu, instruction, value);
  };

type Convert = (value: Float80, size: number, mode: Rounding, masks: number) => Stored;

const bitsOf: Convert = (value) => ({ bits: toBits(value), flags: 0, up: false });
const packed: Convert = (value, _size, mode) => toPacked(value, mode);

/** Stores ST(0) as what `convert` makes of it. Nothing is stored with an unmasked exception other than PE. */
function store(convert: Convert, pops: 0 | 1): Microcode {
  return (cpu, instruction) => {
    begin(cpu);
    const { size } = instruction.operands[0];
    const masks = control(cpu);
    const empty = isEmpty(cpu, 0);
    const result = convert(empty ? INDEFINITE : register(cpu, 0), size, roundingOf(masks), masks);
    const flags = empty ? UNDERFLOW : result.flags;
    const prevented = preventing(cpu, flags) || flags & ~masks & (Exception.OE | Exception.UE);
    if (prevented) {
      conclude(cpu, instruction, prevented);
      return;
    }
    writeBits(cpu, instruction, 0, result.bits);
    pop(cpu, pops);
    conclude(cpu, instruction, flags | (result.up ? Status.C1 : 0));
  };
}

const float: Convert = (value, size, mode, masks) => toFloat(value, size as FloatSize, mode, masks);
const truncated: Convert = (value, size) => toInteger(value, size, Rounding.ZERO);

const storeExtended = store(bitsOf, 1);
const storeFloat = [store(float, 0), store(float, 1)] as const;

/** To memory or to a register; `quietly` moves an empty register without a word. */
function storeOrMove(pops: 0 | 1, quietly = false): Microcode {
  return (cpu, instruction) => {
    const [operand] = instruction.operands;
    if (operand.kind === "mem") {
      if (operand.size === 10) storeExtended(cpu, instruction);
      else storeFloat[pops](cpu, instruction);
      return;
    }
    begin(cpu);
    if (!isEmpty(cpu, 0))
      deliver(cpu, instruction, { value: register(cpu, 0), flags: 0, up: false }, operand.reg, pops);
    else if (!quietly) underflow(cpu, instruction, operand.reg, pops);
    else {
      pop(cpu, pops);
      conclude(cpu, instruction, 0);
    }
  };
}

function exchange(cpu: Processor, instruction: Instruction): void {
  begin(cpu);
  const other = instruction.operands[1].reg;
  const flags = isEmpty(cpu, 0) || isEmpty(cpu, other) ? UNDERFLOW : 0;
  if (!preventing(cpu, flags)) {
    const a = isEmpty(cpu, 0) ? INDEFINITE : register(cpu, 0);
    const b = isEmpty(cpu, other) ? INDEFINITE : register(cpu, other);
    setRegister(cpu, 0, b);
    setRegister(cpu, other, a);
  }
  conclude(cpu, instruction, flags);
}

/** What the even one of a pair of condition codes asks for. */
const conditions: Record<number, number> = { 2: Flag.CF, 4: Flag.ZF, 6: Flag.CF | Flag.ZF, 10: Flag.PF };

function moveIf(cpu: Processor, instruction: Instruction): void {
  begin(cpu);
  const code = instruction.form.condition;
  const holds = (cpu.state.rflags & conditions[code & ~1]!) !== 0;
  const from = instruction.operands[1].reg;
  if (isEmpty(cpu, 0) || isEmpty(cpu, from)) {
    underflow(cpu, instruction, 0);
    return;
  }
  if (holds === ((code & 1) === 0)) setRegister(cpu, 0, register(cpu, from));
  notePointer(cpu);
}

/** FINCSTP and FDECSTP: tags stay. */
function turn(by: number): Microcode {
  return (cpu, instruction) => {
    begin(cpu);
    rotate(cpu, by);
    conclude(cpu, instruction, 0);
  };
}

function release(pops: 0 | 1): Microcode {
  return (cpu, instruction) => {
    begin(cpu);
    free(cpu, instruction.operands[0].reg);
    pop(cpu, pops);
    conclude(cpu, instruction, 0);
  };
}

export const TRANSFERS: Record<string, Microcode> = {
  fld: load,
  fild: (cpu, instruction) => {
    begin(cpu);
    deliverAbove(cpu, instruction, fromInteger(readInteger(cpu, instruction, 0)));
  },
  fbld: (cpu, instruction) => {
    begin(cpu);
    deliverAbove(cpu, instruction, fromPacked(readTen(cpu, instruction, 0)));
  },
  fst: storeOrMove(0),
  fstp: storeOrMove(1),
  "fstp.empty": storeOrMove(1, true),
  fist: store(toInteger, 0),
  fistp: store(toInteger, 1),
  fisttp: store(truncated, 1),
  fbstp: store(packed, 1),
  fxch: exchange,
  fcmovcc: moveIf,
  fincstp: turn(1),
  fdecstp: turn(-1),
  ffree: release(0),
  ffreep: release(1),
  fldz: exactConstant(zero(0)),
  fld1: exactConstant(one(0)),
  fldpi: constant(0x4000, 0xc90fdaa22168c234n, Rounding.NEAREST, Rounding.UP),
  fldl2t: constant(0x4000, 0xd49a784bcd1b8afen, Rounding.UP),
  fldl2e: constant(0x3fff, 0xb8aa3b295c17f0bbn, Rounding.NEAREST, Rounding.UP),
  fldlg2: constant(0x3ffd, 0x9a209a84fbcff798n, Rounding.NEAREST, Rounding.UP),
  fldln2: constant(0x3ffe, 0xb17217f7d1cf79abn, Rounding.NEAREST, Rounding.UP),
};
