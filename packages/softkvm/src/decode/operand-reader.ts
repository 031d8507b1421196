/** Operands of an instruction whose prefixes, opcode and ModRM are known. */

import { readSigned } from "./address.ts";
import { type OperandSpec, Size, Source } from "./form.ts";
import { type CodeSize, type Instruction, Operand, SegmentRegister, Status } from "./instruction.ts";

/** Bits of a REX prefix; VEX's R, X, B and W are brought into the same form. */
export const Rex = { W: 8, R: 4, X: 2, B: 1 } as const;

/** Reads operands one by one. What they depend on is in fields, which the decoder sets for each instruction. */
export class OperandReader {
  bytes: Uint8Array = new Uint8Array();
  /** Where the next immediate is; each that is read moves it on. */
  position = 0;
  limit = 0;
  bits: CodeSize = 64;
  rex = 0;
  hasRex = false;
  vexLong = false;
  vvvv = 0;
  opcode = 0;
  modrm = 0;
  operandSize = 32;
  addressSize = 64;
  /** The segment prefix, or -1. */
  segment = -1;
  /** What ModRM names if it is memory, with its segment. */
  readonly memory = new Operand();

  /** Fills `out`. `UNDEFINED` is an operand that cannot be; its bytes are taken all the same. */
  read(spec: OperandSpec, out: Operand): Status {
    const size = spec.size < Size.V ? spec.size : this.#size(spec.size);
    out.size = size;
    switch (spec.source) {
      case Source.FIXED:
        return this.#register(spec, spec.reg, out);
      case Source.OPCODE:
        return this.#register(spec, (this.opcode & 7) | this.#extension(Rex.B), out);
      case Source.MODRM_REG:
        return this.#register(spec, ((this.modrm >> 3) & 7) | this.#extension(Rex.R), out);
      case Source.MODRM_RM:
      case Source.VSIB:
        if (this.modrm >= 0xc0) {
          return this.#register(spec, (this.modrm & 7) | this.#extension(Rex.B), out);
        }
        return this.#memoryOperand(spec, out);
      case Source.VVVV:
        return this.#register(spec, this.vvvv & (this.bits === 64 ? 15 : 7), out);
      case Source.IMM:
      case Source.SIGNED:
      case Source.ONE:
        return this.#immediate(spec, out);
      case Source.IS4:
        if (this.position >= this.limit) return Status.MORE;
        // Outside 64-bit mode its upper bit does not count.
        return this.#register(spec, (this.bytes[this.position++]! >> 4) & (this.bits === 64 ? 15 : 7), out);
      case Source.REL:
      case Source.FAR:
        return this.#target(spec, out);
      case Source.MOFFS:
        return this.#absolute(out);
      case Source.ES_DI:
      case Source.AT_REGISTER:
        this.#atRegister(spec, out);
        return Status.OK;
    }
  }

  #extension(bit: number): number {
    return this.rex & bit ? 8 : 0;
  }

  #register(spec: OperandSpec, reg: number, out: Operand): Status {
    out.kind = "reg";
    out.bank = spec.bank;
    out.reg = reg;
    out.high = false;
    switch (spec.bank) {
      case "gpr":
        // Without REX, 4 to 7 are the upper bytes of the first four registers.
        if (out.size === 1 && reg >= 4 && reg < 8 && !this.hasRex) {
          out.high = true;
          out.reg = reg - 4;
        }
        return Status.OK;
      case "xmm":
        if (out.size === 32) out.bank = "ymm";
        return Status.OK;
      case "mm":
      case "st":
        out.reg = reg & 7;
        return Status.OK;
      case "seg":
        out.reg = reg & 7;
        return out.reg <= SegmentRegister.GS ? Status.OK : Status.UNDEFINED;
      case "cr":
        return reg === 0 || reg === 2 || reg === 3 || reg === 4 || reg === 8 ? Status.OK : Status.UNDEFINED;
      default:
        return reg < 8 ? Status.OK : Status.UNDEFINED;
    }
  }

  #memoryOperand(spec: OperandSpec, out: Operand): Status {
    const memory = this.memory;
    out.kind = "mem";
    out.bank = "gpr";
    out.base = memory.base;
    out.index = memory.index;
    out.scale = memory.scale;
    out.disp = memory.disp;
    out.dispHigh = memory.dispHigh;
    out.ripRelative = memory.ripRelative;
    out.segment = memory.segment;
    if (spec.source !== Source.VSIB) return Status.OK;
    out.bank = spec.bank === "ymm" && this.vexLong ? "ymm" : "xmm";
    // Only SIB encodes a vector as index.
    return (this.modrm & 7) === 4 && this.addressSize !== 16 ? Status.OK : Status.UNDEFINED;
  }

  #immediate(spec: OperandSpec, out: Operand): Status {
    out.kind = "imm";
    if (spec.source === Source.ONE) {
      out.value = 1;
      out.valueHigh = 0;
      return Status.OK;
    }
    // Immediates of operand size are at most four bytes and extended, but for `mov r64, imm64`.
    const width = spec.size < Size.V ? spec.size : spec.size === Size.Z ? Math.min(out.size, 4) : out.size;
    const at = this.position;
    this.position = at + width;
    if (this.position > this.limit) return Status.MORE;
    out.value = readSigned(this.bytes, at, Math.min(width, 4));
    out.valueHigh = width === 8 ? readSigned(this.bytes, at + 4, 4) : out.value >> 31;
    if (spec.source === Source.IMM) {
      if (width < 4) out.value &= (1 << (width * 8)) - 1;
      out.valueHigh = 0;
    }
    if (spec.source === Source.SIGNED) out.size = this.operandSize >> 3;
    return Status.OK;
  }

  #target(spec: OperandSpec, out: Operand): Status {
    const width = spec.size === 1 ? 1 : this.operandSize === 16 ? 2 : 4;
    const at = this.position;
    this.position = at + width + (spec.source === Source.FAR ? 2 : 0);
    if (this.position > this.limit) return Status.MORE;
    out.value = readSigned(this.bytes, at, width);
    if (spec.source === Source.REL) {
      out.kind = "rel";
      return Status.OK;
    }
    out.kind = "far";
    out.value = width === 2 ? out.value & 0xffff : out.value >>> 0;
    out.selector = readSigned(this.bytes, at + width, 2) & 0xffff;
    return Status.OK;
  }

  #absolute(out: Operand): Status {
    const width = this.addressSize >> 3;
    const at = this.position;
    this.position = at + width;
    if (this.position > this.limit) return Status.MORE;
    fillMemory(out, -1, this.segment >= 0 ? this.segment : SegmentRegister.DS);
    out.disp = readSigned(this.bytes, at, Math.min(width, 4));
    if (width === 2) out.disp &= 0xffff;
    out.dispHigh = width === 8 ? readSigned(this.bytes, at + 4, 4) : 0;
    return Status.OK;
  }

  #atRegister(spec: OperandSpec, out: Operand): void {
    const override = spec.source === Source.ES_DI ? SegmentRegister.ES : this.segment;
    fillMemory(out, spec.reg, override >= 0 ? override : SegmentRegister.DS);
  }

  #size(size: number): number {
    const operandSize = this.operandSize >> 3;
    const vector = this.vexLong ? 32 : 16;
    switch (size) {
      case Size.V:
      case Size.Z:
        return size === Size.Z && operandSize === 8 ? 4 : operandSize;
      case Size.Y:
        return this.bits === 64 && this.rex & Rex.W ? 8 : 4;
      case Size.N:
        return this.bits === 64 ? 8 : 4;
      case Size.P:
        return operandSize + 2;
      case Size.S:
        return this.bits === 64 ? 10 : 6;
      case Size.A:
        return operandSize * 2;
      case Size.X:
        return vector;
      case Size.X2:
        return vector >> 1;
      case Size.X4:
        return vector >> 2;
      case Size.X8:
        return vector >> 3;
      case Size.ENV:
        return operandSize === 2 ? 14 : 28;
      default:
        return operandSize === 2 ? 94 : 108;
    }
  }
}

/** Destination, index and mask have to be three registers. */
export function isValidGather(instruction: Instruction): boolean {
  const [destination, source, mask] = instruction.operands;
  return destination.reg !== source.index && source.index !== mask.reg && mask.reg !== destination.reg;
}

function fillMemory(out: Operand, base: number, segment: number): void {
  out.kind = "mem";
  out.bank = "gpr";
  out.base = base;
  out.index = -1;
  out.scale = 0;
  out.disp = 0;
  out.dispHigh = 0;
  out.ripRelative = false;
  out.segment = segment;
}
