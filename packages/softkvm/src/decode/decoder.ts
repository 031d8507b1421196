/**
 * The instruction decoder (Intel SDM vol. 2, chapter 2). Where processors differ it does as Intel's do: near branches
 * ignore an operand size prefix in 64-bit mode, and far pointers in memory have 64 bits of offset with REX.W.
 *
 * Bytes are taken strictly in order, and only those that belong to the instruction, so a fault on the next page is raised
 * only if that page is needed. As on processors, the length comes first: bytes that are missing or too many go before #UD,
 * even where there is no such instruction (see tables/undefined.ts).
 */

import { readAddress, readSigned } from "./address.ts";
import { type Form, Key, type OperandSpec, Size, Source } from "./form.ts";
import { type CodeSize, type Instruction, Operand, SegmentRegister, Status } from "./instruction.ts";
import { arrangeOpcodes, FEATURES, type Opcode, type OpcodeMapTable, UNDEFINED_MNEMONIC } from "./opcode-map.ts";

export { FORMS } from "./opcode-map.ts";

/** No instruction may be longer. */
const MAX_LENGTH = 15;

const REX_W = 8;
const REX_R = 4;
const REX_X = 2;
const REX_B = 1;

/** What a byte does before an opcode. */
const Prefix = { NONE: 0, SEGMENT: 1, OPERAND_SIZE: 2, ADDRESS_SIZE: 3, LOCK: 4, REP: 5, REX: 6 } as const;
const LEGACY_PREFIXES = new Uint8Array(256);
for (const byte of [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65]) LEGACY_PREFIXES[byte] = Prefix.SEGMENT;
LEGACY_PREFIXES[0x66] = Prefix.OPERAND_SIZE;
LEGACY_PREFIXES[0x67] = Prefix.ADDRESS_SIZE;
LEGACY_PREFIXES[0xf0] = Prefix.LOCK;
LEGACY_PREFIXES[0xf2] = Prefix.REP;
LEGACY_PREFIXES[0xf3] = Prefix.REP;
const LONG_PREFIXES = LEGACY_PREFIXES.slice().fill(Prefix.REX, 0x40, 0x50);

/** Base of each map in an `OpcodeMapTable`; the VEX maps by VEX.mmmmm. */
const MAP_ONE = 0;
const MAP_0F = 0x100;
const MAP_0F38 = 0x200;
const MAP_0F3A = 0x300;
const MAP_VEX = 0x300;

const PREFIX_KEY = [Key.NP, Key.P66, Key.PF3, Key.PF2];

/** Decodes for a processor that has `features` (see `Form.feature`); what it lacks is #UD or means something older. */
export class Decoder {
  readonly #legacy: OpcodeMapTable;
  readonly #long: OpcodeMapTable;

  // The instruction being decoded. Fields, not an object per instruction: decoding allocates nothing.
  #bytes: Uint8Array = new Uint8Array();
  #position = 0;
  #limit = 0;
  #bits: CodeSize = 64;
  #rex = 0;
  #hasRex = false;
  #vexLong = false;
  #vvvv = 0;
  #opcode = 0;
  #modrm = 0;
  #operandSize = 32;
  #addressSize = 64;
  #segment = -1;
  readonly #memory = new Operand();

  constructor(features: ReadonlySet<string> = FEATURES) {
    this.#legacy = arrangeOpcodes("legacy", features);
    this.#long = arrangeOpcodes("long", features);
  }

  /**
   * Decodes what begins at `offset` in `bytes`, of which those before `end` are at hand, into `out`. `out` holds an
   * instruction only when the result is `Status.OK`; with `Status.UNDEFINED` its length tells how many bytes it took to
   * know.
   */
  decode(bytes: Uint8Array, offset: number, end: number, bits: CodeSize, out: Instruction): Status {
    const long = bits === 64;
    const limit = Math.min(end, offset + MAX_LENGTH);
    const short = end - offset >= MAX_LENGTH ? Status.TOO_LONG : Status.MORE;
    const prefixes = long ? LONG_PREFIXES : LEGACY_PREFIXES;
    let position = offset;
    let rex = 0;
    let rep: 0 | 0xf2 | 0xf3 = 0;
    let segment = -1;
    let operandPrefix = false;
    let addressPrefix = false;
    let lock = false;
    let opcode = 0;

    for (;;) {
      if (position >= limit) return short;
      opcode = bytes[position++]!;
      const prefix = prefixes[opcode]!;
      if (prefix === Prefix.NONE) break;
      if (prefix === Prefix.REX) {
        rex = opcode;
        continue;
      }
      // REX counts only right before the opcode.
      rex = 0;
      if (prefix === Prefix.REP) rep = opcode as 0xf2 | 0xf3;
      else if (prefix === Prefix.OPERAND_SIZE) operandPrefix = true;
      else if (prefix === Prefix.ADDRESS_SIZE) addressPrefix = true;
      else if (prefix === Prefix.LOCK) lock = true;
      else if (opcode >= 0x64) segment = opcode - 0x60;
      else if (!long) segment = (opcode >> 3) & 3;
    }
    const hasRex = rex !== 0;
    const mandatory = rep === 0xf3 ? 2 : rep === 0xf2 ? 3 : operandPrefix ? 1 : 0;
    let key = PREFIX_KEY[mandatory]!;

    let map: number = MAP_ONE;
    let vex = false;
    let reserved = false;
    this.#vexLong = false;
    this.#vvvv = 0;
    if (opcode === 0x0f) {
      if (position >= limit) return short;
      opcode = bytes[position++]!;
      map = MAP_0F;
      if (opcode >= 0x38 && opcode <= 0x3f) {
        // 39 and 3b to 3f are escapes to maps that are empty so far: odd ones as 38, with an immediate as 3a.
        map = opcode & 2 ? MAP_0F3A : MAP_0F38;
        reserved = opcode !== 0x38 && opcode !== 0x3a;
        if (position >= limit) return short;
        opcode = bytes[position++]!;
      }
    } else if (opcode === 0xc4 || opcode === 0xc5 || opcode === 0x62) {
      if (position >= limit) return short;
      const first = bytes[position]!;
      // Outside 64-bit mode these are LES, LDS and BOUND, which have no register form. Without a map, too, the length is
      // that of LES; two of the map's bits count for this.
      if ((long || first >= 0xc0) && (opcode === 0xc5 || (first & 3) !== 0)) {
        const payload = opcode === 0xc5 ? 1 : opcode === 0xc4 ? 2 : 3;
        const select = opcode === 0xc5 ? 1 : first & 0x1f;
        if (position + payload >= limit) return short;
        const second = bytes[position + (payload > 1 ? 1 : 0)]!;
        vex = true;
        operandPrefix = false;
        reserved = select > 3 || opcode === 0x62;
        rex = first & 0x80 ? 0 : REX_R;
        if (payload > 1) rex |= (first & 0x40 ? 0 : REX_X) | (first & 0x20 ? 0 : REX_B) | (second & 0x80 ? REX_W : 0);
        // Elsewhere there are eight registers: R and X are as LES demands, and B does not count.
        if (!long) rex &= REX_W;
        // Unused, vvvv has to be 0 (as encoded, all ones) in every mode.
        this.#vvvv = (~second >> 3) & 15;
        this.#vexLong = (second & 4) !== 0;
        key = PREFIX_KEY[second & 3]! | (this.#vexLong ? Key.L : 0);
        map = MAP_VEX + (select & 3) * 256;
        opcode = bytes[position + payload]!;
        position += payload + 1;
      }
    }

    const entry: Opcode | undefined = (long ? this.#long : this.#legacy)[map + opcode];
    out.length = position - offset;
    if (entry === undefined) return Status.UNDEFINED;
    let modrm = 0;
    if (entry.hasModrm) {
      if (position >= limit) return short;
      modrm = bytes[position++]!;
      key |= modrm;
      if (modrm >= 0xc0) key |= Key.REGISTER;
    }
    if (rex & REX_W) key |= Key.W;
    if (rex & REX_B) key |= Key.REX_B;
    const form = choose(entry.candidates(modrm), key);
    out.length = position - offset;
    if (form === undefined) return Status.UNDEFINED;

    const operandSize = long
      ? form.size64 === "forced" || rex & REX_W
        ? 64
        : operandPrefix
          ? 16
          : form.size64 === "default"
            ? 64
            : 32
      : (bits === 32) === operandPrefix
        ? 16
        : 32;
    const addressSize = long ? (addressPrefix ? 32 : 64) : (bits === 32) === addressPrefix ? 16 : 32;

    if (form.ignoresMod) modrm |= 0xc0;
    if (entry.hasModrm && modrm < 0xc0) {
      position = readAddress(bytes, position, limit, modrm, rex, addressSize, long, form.vsib, this.#memory);
      if (position < 0) return short;
      if (segment >= 0) this.#memory.segment = segment;
    }

    this.#bytes = bytes;
    this.#position = position;
    this.#limit = limit;
    this.#bits = bits;
    this.#rex = rex;
    this.#hasRex = hasRex;
    this.#opcode = opcode;
    this.#modrm = modrm;
    this.#operandSize = operandSize;
    this.#addressSize = addressSize;
    this.#segment = segment;
    const specs = form.operands;
    let valid = !reserved && form.mnemonic !== UNDEFINED_MNEMONIC;
    for (let i = 0; i < specs.length; i++) {
      const result = this.#operand(specs[i]!, out.operands[i as 0]);
      if (result === Status.MORE) return short;
      if (result !== Status.OK) valid = false;
    }
    if (lock && !(form.lockable && out.operands[0].kind === "mem")) valid = false;
    if (vex && (hasRex || mandatory !== 0 || (this.#vvvv !== 0 && !form.usesVvvv))) valid = false;
    if (form.vsib && !isValidGather(out)) valid = false;
    out.length = this.#position - offset;
    if (!valid) return Status.UNDEFINED;

    out.form = form;
    out.bits = bits;
    out.operandSize = operandSize;
    out.addressSize = addressSize;
    out.lock = lock;
    out.rep = rep;
    out.segmentOverride = segment;
    out.wide = (rex & REX_W) !== 0;
    out.vexLong = this.#vexLong;
    out.operandCount = specs.length;
    return Status.OK;
  }

  #operand(spec: OperandSpec, out: Operand): Status {
    const size = spec.size < Size.V ? spec.size : this.#size(spec.size);
    out.size = size;
    switch (spec.source) {
      case Source.FIXED:
        return this.#register(spec, spec.reg, out);
      case Source.OPCODE:
        return this.#register(spec, (this.#opcode & 7) | this.#extension(REX_B), out);
      case Source.MODRM_REG:
        return this.#register(spec, ((this.#modrm >> 3) & 7) | this.#extension(REX_R), out);
      case Source.MODRM_RM:
      case Source.VSIB:
        if (this.#modrm >= 0xc0) {
          return this.#register(spec, (this.#modrm & 7) | this.#extension(REX_B), out);
        }
        return this.#memoryOperand(spec, out);
      case Source.VVVV:
        return this.#register(spec, this.#vvvv & (this.#bits === 64 ? 15 : 7), out);
      case Source.IMM:
      case Source.SIGNED:
      case Source.ONE:
        return this.#immediate(spec, out);
      case Source.IS4:
        if (this.#position >= this.#limit) return Status.MORE;
        // Outside 64-bit mode its upper bit does not count.
        return this.#register(spec, (this.#bytes[this.#position++]! >> 4) & (this.#bits === 64 ? 15 : 7), out);
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
    return this.#rex & bit ? 8 : 0;
  }

  #register(spec: OperandSpec, reg: number, out: Operand): Status {
    out.kind = "reg";
    out.bank = spec.bank;
    out.reg = reg;
    out.high = false;
    switch (spec.bank) {
      case "gpr":
        // Without REX, 4 to 7 are the upper bytes of the first four registers.
        if (out.size === 1 && reg >= 4 && reg < 8 && !this.#hasRex) {
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
    const memory = this.#memory;
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
    out.bank = spec.bank === "ymm" && this.#vexLong ? "ymm" : "xmm";
    // Only SIB encodes a vector as index.
    return (this.#modrm & 7) === 4 && this.#addressSize !== 16 ? Status.OK : Status.UNDEFINED;
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
    const at = this.#position;
    this.#position = at + width;
    if (this.#position > this.#limit) return Status.MORE;
    out.value = readSigned(this.#bytes, at, Math.min(width, 4));
    out.valueHigh = width === 8 ? readSigned(this.#bytes, at + 4, 4) : out.value >> 31;
    if (spec.source === Source.IMM) {
      if (width < 4) out.value &= (1 << (width * 8)) - 1;
      out.valueHigh = 0;
    }
    if (spec.source === Source.SIGNED) out.size = this.#operandSize >> 3;
    return Status.OK;
  }

  #target(spec: OperandSpec, out: Operand): Status {
    const width = spec.size === 1 ? 1 : this.#operandSize === 16 ? 2 : 4;
    const at = this.#position;
    this.#position = at + width + (spec.source === Source.FAR ? 2 : 0);
    if (this.#position > this.#limit) return Status.MORE;
    out.value = readSigned(this.#bytes, at, width);
    if (spec.source === Source.REL) {
      out.kind = "rel";
      return Status.OK;
    }
    out.kind = "far";
    out.value = width === 2 ? out.value & 0xffff : out.value >>> 0;
    out.selector = readSigned(this.#bytes, at + width, 2) & 0xffff;
    return Status.OK;
  }

  #absolute(out: Operand): Status {
    const width = this.#addressSize >> 3;
    const at = this.#position;
    this.#position = at + width;
    if (this.#position > this.#limit) return Status.MORE;
    fillMemory(out, -1, this.#segment >= 0 ? this.#segment : SegmentRegister.DS);
    out.disp = readSigned(this.#bytes, at, Math.min(width, 4));
    if (width === 2) out.disp &= 0xffff;
    out.dispHigh = width === 8 ? readSigned(this.#bytes, at + 4, 4) : 0;
    return Status.OK;
  }

  #atRegister(spec: OperandSpec, out: Operand): void {
    const override = spec.source === Source.ES_DI ? SegmentRegister.ES : this.#segment;
    fillMemory(out, spec.reg, override >= 0 ? override : SegmentRegister.DS);
  }

  #size(size: number): number {
    const operandSize = this.#operandSize >> 3;
    const vector = this.#vexLong ? 32 : 16;
    switch (size) {
      case Size.V:
      case Size.Z:
        return size === Size.Z && operandSize === 8 ? 4 : operandSize;
      case Size.Y:
        return this.#bits === 64 && this.#rex & REX_W ? 8 : 4;
      case Size.N:
        return this.#bits === 64 ? 8 : 4;
      case Size.P:
        return operandSize + 2;
      case Size.S:
        return this.#bits === 64 ? 10 : 6;
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

function choose(forms: readonly Form[], key: number): Form | undefined {
  for (let i = 0; i < forms.length; i++) {
    const form = forms[i]!;
    if ((key & form.mask) === form.value) return form;
  }
  return undefined;
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

/** Destination, index and mask have to be three registers. */
function isValidGather(instruction: Instruction): boolean {
  const [destination, source, mask] = instruction.operands;
  return destination.reg !== source.index && source.index !== mask.reg && mask.reg !== destination.reg;
}
