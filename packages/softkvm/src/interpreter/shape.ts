/**
 * The shape of an instruction: all that its handler depends on. Two instructions of one shape share a handler and differ
 * in their records only.
 */

import { Mode } from "../cpu/layout.ts";
import { Source } from "../decode/form.ts";
import type { Instruction, Operand } from "../decode/instruction.ts";
import type { OperandShape } from "../semantics/context.ts";
import { missingUnit, type Unit } from "../semantics/sse/availability.ts";
import { decidingImmediates } from "../semantics/sse/immediates.ts";

/** How a memory operand's address is made. */
export interface AddressShape {
  readonly size: 2 | 4 | 8;
  readonly hasIndex: boolean;
  /** The segment's base is added: not in flat segments. */
  readonly hasSegment: boolean;
  /** The limit and the rights of the segment are checked. */
  readonly checked: boolean;
  /** The segment is SS. */
  readonly stack: boolean;
}

export interface Shape {
  readonly key: string;
  readonly mnemonic: string;
  readonly condition: number;
  readonly operands: readonly OperandShape[];
  readonly operandSize: 2 | 4 | 8;
  readonly addressSize: 2 | 4 | 8;
  readonly stackSize: 2 | 4 | 8;
  readonly bits: 16 | 32 | 64;
  readonly lock: boolean;
  readonly rep: number;
  readonly address: AddressShape;
  /** What it would need and the mode switches off: it raises an exception. */
  readonly missing?: Unit | undefined;
}

const SS = 2;
const FS = 4;
/** Those that `Mode.FLAT` speaks of: ES, SS, DS. CS cannot be written, and FS and GS may be anything. */
const FLAT_SEGMENTS: ReadonlySet<number> = new Set([0, SS, 3]);

/** The shape of an instruction under a mode, or undefined when it has operands that only TypeScript reads. */
export function shapeOf(instruction: Instruction, mode: number): Shape | undefined {
  const operands: OperandShape[] = [];
  const memory = addressedOperand(instruction);
  for (let index = 0; index < instruction.operandCount; index++) {
    const operand = instruction.operands[index]!;
    const shape = operandShape(operand, decidingImmediates[instruction.form.mnemonic]);
    if (shape === undefined) return undefined;
    operands.push(shape);
  }
  const bits = instruction.bits;
  const flat = (mode & Mode.FLAT) !== 0;
  const address: AddressShape = {
    size: (instruction.addressSize / 8) as 2 | 4 | 8,
    hasIndex: memory !== undefined && memory.index >= 0 && memory.bank === "gpr",
    hasSegment: !flat || segmentOf(instruction, memory) >= FS,
    checked: bits !== 64 && !(flat && FLAT_SEGMENTS.has(segmentOf(instruction, memory))),
    stack: segmentOf(instruction, memory) === SS,
  };
  const stackSize = bits === 64 ? 8 : mode & Mode.STACK_32 ? 4 : 2;
  const { mnemonic, condition } = instruction.form;
  const list = operands
    .map(
      ({ kind, size, value, indexBytes }) =>
        `${kind}${size}${value === undefined ? "" : `=${value}`}${indexBytes === undefined ? "" : `*${indexBytes}`}`,
    )
    .join();
  const flags = `${instruction.operandSize}/${instruction.addressSize}/${stackSize}/${bits}`;
  const access = `${+address.hasIndex}${+address.hasSegment}${+address.checked}${+address.stack}`;
  // An exchange with memory is atomic without the prefix, too (Intel SDM vol. 3, 8.1.2.2).
  const lock = instruction.lock || (mnemonic === "xchg" && operands.some(({ kind }) => kind === "mem"));
  const missing = missingUnit(instruction, mode);
  const without = missing === undefined ? "" : `without ${missing} `;
  return {
    key: `${without}${mnemonic} ${condition} ${list} ${flags} ${access} ${+lock} ${instruction.rep}`,
    mnemonic,
    condition,
    operands,
    operandSize: (instruction.operandSize / 8) as 2 | 4 | 8,
    addressSize: (instruction.addressSize / 8) as 2 | 4 | 8,
    stackSize,
    bits,
    lock,
    rep: instruction.rep,
    address,
    missing,
  };
}

/** The memory operand whose address an instruction encodes: not the destination of a string instruction, always in ES. */
export function addressedOperand(instruction: Instruction): Operand | undefined {
  const { operands, operandCount, form } = instruction;
  for (let index = 0; index < operandCount; index++) {
    if (operands[index]!.kind === "mem" && form.operands[index]!.source !== Source.ES_DI) return operands[index];
  }
  return undefined;
}

/** The segment that an instruction's (explicit or string) memory operand is in. */
export function segmentOf(instruction: Instruction, memory: Operand | undefined): number {
  if (memory !== undefined) return memory.segment;
  return instruction.segmentOverride >= 0 ? instruction.segmentOverride : 3;
}

/** `deciding`: the bits of an immediate that belong to the shape, if it does. */
function operandShape(operand: Operand, deciding: number | undefined): OperandShape | undefined {
  const size = operand.size;
  switch (operand.kind) {
    case "reg":
      if (operand.bank === "gpr") return { kind: "gpr", size };
      if (operand.bank === "xmm" || operand.bank === "ymm") return { kind: "xmm", size };
      if (operand.bank === "mm") return { kind: "mm", size };
      if (operand.bank === "st") return { kind: "st", size };
      if (operand.bank === "cr" || operand.bank === "seg") return { kind: operand.bank, size, value: operand.reg };
      return undefined;
    case "mem":
      if (operand.bank === "gpr") return { kind: "mem", size };
      return { kind: "mem", size, indexBytes: operand.bank === "ymm" ? 32 : 16 };
    case "imm":
      return deciding === undefined ? { kind: "imm", size } : { kind: "imm", size, value: operand.value & deciding };
    case "rel":
      return { kind: "rel", size };
    case "far":
      return undefined;
  }
}
