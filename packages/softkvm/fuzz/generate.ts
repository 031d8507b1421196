/** Makes cases of one instruction. */

import { Decoder } from "../src/decode/decoder.ts";
import { type Form, Key, type OpcodeMap, Source } from "../src/decode/form.ts";
import { type CodeSize, Instruction, type Operand, Status } from "../src/decode/instruction.ts";
import { FORMS } from "../src/decode/opcode-map.ts";
import { arithmetic } from "../src/semantics/arithmetic.ts";
import { bits } from "../src/semantics/bits.ts";
import { bmi } from "../src/semantics/bmi.ts";
import { branches } from "../src/semantics/branches.ts";
import { data } from "../src/semantics/data.ts";
import { multiplication } from "../src/semantics/multiply.ts";
import { shifts } from "../src/semantics/shifts.ts";
import { strings } from "../src/semantics/strings.ts";
import { systemInstructions } from "../src/semantics/system/table.ts";
import { meaningOf } from "../src/semantics/table.ts";
import { codeAddress, type FuzzCase, initialXsave, Xsave } from "./case.ts";
import { CODE_BYTES, DATA_BYTES, exitOf, HIGH_ALIAS, linearOf, Selectors, SlotPages } from "./layout.ts";
import { COMPARED_MICROCODE } from "./microcode.ts";
import { FEATURES } from "./processor.ts";
import { POOL, Random } from "./random.ts";

const PAGE = 0x1000;
/** In the code pages: a jump to exit 1, for branches to absolute addresses. */
const LANDING = 0x100;
const MAX_LENGTH = 15;
const RSP = 4;

/** Forms whose mnemonics the subjects know and this processor has, by mnemonic. */
export interface Coverage {
  readonly known: ReadonlyMap<string, readonly Form[]>;
  /** Mnemonics without a meaning, with the number of their forms. */
  readonly skipped: ReadonlyMap<string, number>;
  /** Features that this processor lacks, with the number of their forms. */
  readonly lacking: ReadonlyMap<string, number>;
}

/** Those that are no vector, MMX or x87 instructions. */
export const INTEGER: readonly string[] = [
  ...[arithmetic, bits, bmi, branches, data, multiplication, shifts, strings].flatMap((table) => Object.keys(table)),
  ...["jcc", "setcc", "cmovcc"],
];

/** Those with VEX: AVX and its successors, BMI. */
export const VEX: readonly string[] = FORMS.filter(({ map }) => map.startsWith("vex")).map(({ mnemonic }) => mnemonic);

/**
 * Not compared by default. With a mask of zeros, whether MASKMOVQ faults is left to the processor (SDM vol. 2). System
 * instructions see the host's flags and segments where KVM runs ring 3 without them; they are compared with their
 * microcode.
 */
const UNSETTLED: ReadonlySet<string> = new Set([
  ...["maskmovq", "maskmovdqu", "vmaskmovdqu"],
  ...Object.keys(systemInstructions),
]);

/** `wanted`: only these mnemonics. */
export function coverage(wanted?: ReadonlySet<string>): Coverage {
  const known = new Map<string, Form[]>();
  const skipped = new Map<string, number>();
  const lacking = new Map<string, number>();
  const count = (map: Map<string, number>, key: string) => map.set(key, (map.get(key) ?? 0) + 1);
  for (const form of FORMS) {
    const { mnemonic, feature } = form;
    if (wanted !== undefined && !wanted.has(mnemonic)) continue;
    if (!isPresent(form)) count(lacking, feature);
    else if (!knows(form)) count(skipped, mnemonic);
    else {
      const forms = known.get(mnemonic);
      if (forms) forms.push(form);
      else known.set(mnemonic, [form]);
    }
  }
  return { known, skipped, lacking };
}

/** Whether both sides can execute a form, and have to agree on it. */
export function knows(form: Form): boolean {
  const { mnemonic, condition } = form;
  if (!isPresent(form) || UNSETTLED.has(mnemonic)) return false;
  return meaningOf(mnemonic, condition) !== undefined || COMPARED_MICROCODE.has(mnemonic);
}

/** Whether this processor has a form's feature; every one with 64 bits has those that have no name. */
function isPresent({ feature }: Form): boolean {
  return feature === "base" || FEATURES.has(feature);
}

/** The bytes of an encoding, and where in them its parts are; -1 for none. */
interface Encoding {
  bytes: number[];
  displacement: number;
  displacementSize: number;
  /** What follows ModRM, SIB and displacement. */
  immediate: number;
}

const ESCAPES: Readonly<Record<OpcodeMap, readonly number[]>> = {
  one: [],
  "0f": [0x0f],
  "0f38": [0x0f, 0x38],
  "0f3a": [0x0f, 0x3a],
  "vex.0f": [1],
  "vex.0f38": [2],
  "vex.0f3a": [3],
};
const SEGMENTS = [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x64, 0x65];
/** Where 32-bit code is emulated, a write by way of CS faults later than on the processor. */
const SEGMENTS_OF_DATA = [0x26, 0x36, 0x3e, 0x64, 0x65];
const PREFIXES: ReadonlySet<number> = new Set([...SEGMENTS, 0x66, 0x67, 0xf0, 0xf2, 0xf3]);
const MANDATORY: readonly [key: number, byte: number][] = [
  [Key.NP, 0],
  [Key.P66, 0x66],
  [Key.PF3, 0xf3],
  [Key.PF2, 0xf2],
];

export const isString = (form: Form) =>
  form.operands.some(({ source }) => source === Source.ES_DI || source === Source.AT_REGISTER);

/** Random bytes that encode a form, mostly. `ripOnly`: memory operands are RIP-relative. */
export function encode(random: Random, form: Form, bits: CodeSize, ripOnly = false): Encoding {
  const bytes: number[] = [];
  const isVex = form.map.startsWith("vex");
  const anyPrefix = [Key.NP, Key.P66, Key.PF3, Key.PF2].every((key) => (form.mask & key) === 0);
  const allowed = MANDATORY.filter(([key]) => (form.mask & key) === 0);
  const [, mandatory] = random.pick(allowed);

  const prefixes: number[] = [];
  if (random.once(5)) prefixes.push(random.pick(bits === 64 ? SEGMENTS : SEGMENTS_OF_DATA));
  if (random.once(8)) prefixes.push(0x67);
  if (!isVex) {
    if (anyPrefix && random.once(4)) prefixes.push(0x66);
    if (anyPrefix && random.once(isString(form) ? 2 : 12)) prefixes.push(random.pick([0xf2, 0xf3]));
    if (!anyPrefix && mandatory !== 0) prefixes.push(mandatory);
    if (!anyPrefix && mandatory !== 0x66 && random.once(8)) prefixes.push(0x66);
    if (random.once(form.lockable ? 4 : 100)) prefixes.push(0xf0);
    if (random.once(60)) prefixes.push(random.pick([...prefixes, 0x66, 0x3e]));
  }
  for (let left = prefixes.length; left > 1; left--) {
    const other = random.below(left);
    [prefixes[left - 1], prefixes[other]] = [prefixes[other]!, prefixes[left - 1]!];
  }
  bytes.push(...prefixes);

  const wide = (form.mask & Key.W) !== 0 ? (form.value & Key.W) !== 0 : random.below(3) === 0;
  if (isVex) pushVex(random, form, bits, bytes, mandatory, wide);
  else {
    if (bits === 64 && (wide || random.below(2) === 0)) {
      let rex = 0x40 | (wide ? 8 : 0) | random.below(8);
      if (form.mask & Key.REX_B) rex &= ~1;
      bytes.push(rex);
    }
    bytes.push(...ESCAPES[form.map]);
  }
  bytes.push(form.byte + (form.opcodes > 1 ? random.below(form.opcodes) : 0));
  const encoding = { bytes, displacement: -1, displacementSize: 0, immediate: bytes.length };
  if (form.hasModrm) pushModrm(random, form, bits, encoding, prefixes.includes(0x67), ripOnly);
  encoding.immediate = bytes.length;
  // More than any immediate needs; the decoder says how much belongs to the instruction.
  let immediate = random.once(3) ? random.wide() : random.value(0);
  for (let index = 0; index < 10; index++) {
    bytes.push(Number(immediate & 0xffn));
    immediate >>= 8n;
  }
  return encoding;
}

function pushVex(random: Random, form: Form, bits: CodeSize, bytes: number[], mandatory: number, wide: boolean): void {
  const pp = [0, 0x66, 0xf3, 0xf2].indexOf(mandatory);
  const long = (form.mask & Key.L) !== 0 ? (form.value & Key.L) !== 0 : random.below(2) === 0;
  const vvvv = form.usesVvvv || random.once(50) ? random.below(16) : 0;
  const [map] = ESCAPES[form.map];
  const last = ((~vvvv & 15) << 3) | (long ? 4 : 0) | pp;
  if (map === 1 && !wide && random.below(2) === 0) {
    bytes.push(0xc5, (bits === 64 ? random.below(2) << 7 : 0x80) | (bits === 64 ? last : last | 0x40));
    return;
  }
  const extensions = bits === 64 ? random.below(8) << 5 : 0xe0;
  bytes.push(0xc4, extensions | map!, (wide ? 0x80 : 0) | last);
}

function pushModrm(
  random: Random,
  form: Form,
  bits: CodeSize,
  out: Encoding,
  shortAddress: boolean,
  ripOnly: boolean,
): void {
  const { bytes } = out;
  const fixed = form.mask & 0xff;
  let modrm = (random.below(256) & ~fixed) | (form.value & fixed);
  if ((fixed & 0xc0) === 0) {
    const register = form.mask & Key.REGISTER ? (form.value & Key.REGISTER) !== 0 : random.below(5) < 2;
    modrm = (modrm & 0x3f) | (register ? 0xc0 : random.below(3) << 6);
  }
  if (ripOnly && modrm < 0xc0) modrm = (modrm & 0x38) | 5;
  bytes.push(modrm);
  const mod = modrm >> 6;
  const rm = modrm & 7;
  if (mod === 3 || form.ignoresMod) return;
  const size16 = bits === 16 ? !shortAddress : bits === 32 && shortAddress;
  let size = mod === 1 ? 1 : mod === 2 ? (size16 ? 2 : 4) : 0;
  if (size16) {
    if (mod === 0 && rm === 6) size = 2;
  } else {
    let base = rm;
    if (rm === 4) {
      const sib = random.below(256);
      bytes.push(sib);
      base = sib & 7;
    }
    if (mod === 0 && base === 5) size = 4;
  }
  out.displacement = bytes.length;
  out.displacementSize = size;
  let displacement = random.once(3) ? random.word() : random.below(256) - 128;
  for (let index = 0; index < size; index++) {
    bytes.push(displacement & 0xff);
    displacement >>= 8;
  }
}

/**
 * Where KVM emulates 32-bit code of ring 3, as on the machines that Lodge is built on, it knows few vector instructions,
 * and these not as the processor does.
 */
const NOT_EMULATED: ReadonlySet<string> = new Set([
  ...Object.keys(bmi),
  "lzcnt",
  "tzcnt",
  "popcnt",
  "movbe",
  "nop",
  "cmps",
  "scas",
  "rol",
  "ror",
]);

const EMULATED: ReadonlySet<string> = new Set(INTEGER);
const isEmulated = (mnemonic: string) => EMULATED.has(mnemonic) && !NOT_EMULATED.has(mnemonic);

/** Makes cases; holds what is reused between them. */
export class Generator {
  readonly #seed: number;
  readonly #mnemonics: readonly string[];
  readonly #known: ReadonlyMap<string, readonly Form[]>;
  readonly #decoder = new Decoder();
  readonly #instruction = new Instruction();
  readonly #bytes = new Uint8Array(64);
  /** Encodings that came out as mnemonics without meaning, or as undefined. */
  discarded = 0;

  constructor(seed: number, { known }: Coverage) {
    this.#seed = seed;
    this.#known = known;
    this.#mnemonics = [...known.keys()];
  }

  /** The case of this number: the same for the same seed and coverage. 64-bit code if nothing covered is emulated. */
  make(index: number, slot: number, wanted: CodeSize): FuzzCase {
    const random = new Random(this.#seed, index);
    const bits = this.#mnemonics.some(isEmulated) ? wanted : 64;
    for (;;) {
      const form = random.pick(this.#known.get(random.pick(this.#mnemonics))!);
      const encoding = encode(random, form, bits);
      const status = this.#decode(encoding.bytes, bits);
      const undefinedToo =
        status === Status.UNDEFINED && random.once(16) && this.#isDefinedWithoutLock(encoding.bytes, bits);
      if (status === Status.TOO_LONG || undefinedToo) {
        return this.#finish(random, slot, bits, encoding, undefined);
      }
      if (status === Status.OK) {
        const decoded = this.#instruction.form;
        const trusted = bits === 64 || isEmulated(decoded.mnemonic);
        // What is INC or DEC elsewhere is a prefix in 64-bit code: of an instruction whose parts lie where nobody has noted.
        const asMeant = decoded.map === form.map && decoded.byte === form.byte;
        if (trusted && asMeant && knows(decoded)) {
          return this.#finish(random, slot, bits, encoding, this.#instruction);
        }
      }
      this.discarded += 1;
    }
  }

  #decode(bytes: readonly number[], bits: CodeSize): Status {
    this.#bytes.fill(0);
    this.#bytes.set(bytes);
    return this.#decoder.decode(this.#bytes, 0, this.#bytes.length, bits, this.#instruction);
  }

  /** LOCK where it does not belong is #UD on whatever processor; other undefined encodings may be its newer extensions. */
  #isDefinedWithoutLock(bytes: readonly number[], bits: CodeSize): boolean {
    const prefixes = bytes.findIndex((byte) => !PREFIXES.has(byte));
    const rest = bytes.filter((byte, at) => byte !== 0xf0 || at >= prefixes);
    if (rest.length === bytes.length || this.#decode(rest, bits) !== Status.OK) return false;
    const decoded = this.#instruction.form;
    // The fences and some long NOPs take it, though no manual says so.
    return knows(decoded) && !decoded.mnemonic.endsWith("fence") && decoded.mnemonic !== "nop";
  }

  #finish(
    random: Random,
    slot: number,
    bits: CodeSize,
    encoding: Encoding,
    instruction: Instruction | undefined,
  ): FuzzCase {
    const length = instruction?.length ?? MAX_LENGTH;
    const at = place(random, length);
    const fuzzCase = startState(random, slot, bits);
    if (instruction !== undefined) steer(random, fuzzCase, encoding, instruction, at);
    if (bits !== 64) for (let reg = 0; reg < 16; reg++) fuzzCase.gpr[reg]! &= 0xffffffffn;

    const bytes = Uint8Array.from(encoding.bytes.slice(0, length));
    const code = [{ at, bytes }];
    if (at + length < CODE_BYTES) code.push({ at: at + length, bytes: exitCode(slot, bits, 0, at + length) });
    if (instruction !== undefined && instruction.form.flow !== "next") {
      code.push({ at: LANDING, bytes: exitCode(slot, bits, 1, LANDING) });
    }
    fuzzCase.code = [...code, ...fuzzCase.code];
    return fuzzCase;
  }
}

/** Random registers and data, and no code. */
export function startState(random: Random, slot: number, bits: CodeSize): FuzzCase {
  const gpr = Array.from({ length: 16 }, () => random.value(slot));
  gpr[RSP] = random.pointer(slot, 8, bits !== 64);
  const fsBase = random.once(4)
    ? random.value(slot)
    : BigInt(linearOf(slot, SlotPages.data.linear + random.below(0x1000)));
  const gsBase = random.once(4) ? HIGH_ALIAS + BigInt(random.below(0x100)) : 0n;
  // WRFSBASE takes canonical addresses only, of which the upper half is the host's; 32-bit code gets flat segments.
  const canonical = (base: bigint) => (bits === 64 ? BigInt.asUintN(47, base) : 0n);
  return {
    slot,
    bits,
    code: [],
    gpr,
    flags: 0x202 | (random.word() & 0x8d5) | (random.once(3) ? 0x400 : 0) | (random.once(8) ? 0x200000 : 0),
    fsBase: canonical(fsBase),
    gsBase: canonical(gsBase),
    xsave: vectors(random),
    data: { from: random.below(POOL.length / 8) * 8, words: [] },
  };
}

/** Mostly in the middle of a page, at times across two pages or at the end of the last. */
function place(random: Random, length: number): number {
  const kind = random.below(16);
  if (kind === 0) return PAGE - 1 - random.below(MAX_LENGTH);
  if (kind === 1) return CODE_BYTES - length + (random.once(2) ? 0 : random.below(length) - 6);
  return 0x400 + random.below(64);
}

/** A jump to an exit of the slot. */
export function exitCode(slot: number, bits: CodeSize, exit: number, at: number): Uint8Array<ArrayBuffer> {
  const target = exitOf(slot, exit);
  if (bits === 64) {
    const bytes = new Uint8Array(5);
    bytes[0] = 0xe9;
    new DataView(bytes.buffer).setInt32(1, target - (codeAddress(slot, at) + 5), true);
    return bytes;
  }
  const wide = bits === 16 ? [0x66] : [];
  const bytes = new Uint8Array(wide.length + 7);
  bytes.set([...wide, 0xea]);
  const view = new DataView(bytes.buffer, wide.length);
  view.setUint32(1, target, true);
  view.setUint16(5, Selectors.code64, true);
  return bytes;
}

function vectors(random: Random): Uint8Array {
  const area = initialXsave();
  for (const start of [Xsave.xmm, Xsave.ymmHigh]) {
    for (let at = 0; at < 256; at += 16) {
      const from = random.below(POOL.length / 16) * 16;
      area.set(POOL.subarray(from, from + 16), start + at);
    }
  }
  const view = new DataView(area.buffer);
  // Rounding, and at times denormals as zeros, flushing to zero, raised exceptions, and exceptions that trap.
  let mxcsr = 0x1f80 | (random.below(4) << 13);
  if (random.once(4)) mxcsr |= (random.below(2) << 15) | (random.below(2) << 6) | random.below(64);
  if (random.once(8)) mxcsr &= ~(random.below(64) << 7);
  view.setUint32(Xsave.mxcsr, mxcsr, true);
  // MMX registers are x87's, with an exponent of ones once they were written.
  for (let st = 0; st < 8; st++) {
    const from = random.below(POOL.length / 8) * 8;
    area.set(POOL.subarray(from, from + 8), Xsave.st + st * 16);
    view.setUint16(Xsave.st + st * 16 + 8, random.once(4) ? random.word() & 0xffff : 0xffff, true);
  }
  area[Xsave.ftw] = random.once(3) ? random.below(256) : 0xff;
  // TOP and the condition codes; the control word's precision and rounding.
  view.setUint16(Xsave.fsw, random.word() & 0x7f00, true);
  if (random.once(2))
    view.setUint16(Xsave.fcw, 0x007f | random.pick([0, 0x200, 0x300]) | (random.below(4) << 10), true);
  return area;
}

const mask = (bits: number, value: bigint) => BigInt.asUintN(bits, value);

/** Makes memory operands and branches lead to interesting places, mostly. */
function steer(random: Random, fuzzCase: FuzzCase, encoding: Encoding, instruction: Instruction, at: number): void {
  const { slot, gpr } = fuzzCase;
  const { form } = instruction;
  const next = BigInt(codeAddress(slot, at + instruction.length));
  for (let index = 0; index < instruction.operandCount; index++) {
    const operand = instruction.operands[index]!;
    if (operand.kind === "mem" && !random.once(24)) {
      let target = random.pointer(slot, Math.max(1, operand.size), fuzzCase.bits !== 64);
      // A processor that moves strings in large pieces does not see that two linear addresses overlap in memory.
      if (instruction.rep !== 0 && isString(form) && target > HIGH_ALIAS && target < 2n * HIGH_ALIAS)
        target -= HIGH_ALIAS;
      steerMemory(fuzzCase, encoding, instruction, operand, target, next);
      if (form.flow !== "next") aimWord(random, fuzzCase, target);
    } else if (operand.kind === "reg" && form.flow !== "next") {
      if (operand.bank === "gpr") gpr[operand.reg] = branchTarget(random, slot);
    } else if (operand.kind === "rel") steerBranch(random, fuzzCase, encoding, instruction, at);
  }
  if (form.flow === "return") aimWord(random, fuzzCase, gpr[RSP]!);
  if (form.mnemonic === "popf") popFlags(random, fuzzCase);
  if (form.mnemonic === "leave" && !random.once(10)) gpr[5] = random.pointer(slot, 8);
  // Small bit numbers, so that bit strings stay near; small counts, so that strings end before a fault.
  const [first, second] = instruction.operands;
  if (form.mnemonic.startsWith("bt") && first.kind === "mem" && second.kind === "reg" && !random.once(6)) {
    if (second.reg !== first.base) gpr[second.reg] = BigInt.asUintN(64, BigInt(random.below(65536) - 32768));
  }
  if (instruction.rep !== 0 && isString(form) && random.below(4) < 3) gpr[1] = BigInt(random.below(40));
}

/** Most often code that leaves; else wherever a value leads. */
function branchTarget(random: Random, slot: number): bigint {
  return random.below(4) < 3 ? BigInt(codeAddress(slot, LANDING)) : random.value(slot);
}

/** Puts a branch target into the data at a linear address. */
function aimWord(random: Random, fuzzCase: FuzzCase, linear: bigint): void {
  const { slot } = fuzzCase;
  const at = dataOffset(slot, linear);
  if (at !== undefined) fuzzCase.data.words.push({ at, value: branchTarget(random, slot) });
}

/** Where in a slot's data a linear address with room for 8 bytes is. */
function dataOffset(slot: number, linear: bigint): number | undefined {
  const start = BigInt(linearOf(slot, SlotPages.data.linear));
  const at = linear - (linear >= HIGH_ALIAS ? start + HIGH_ALIAS : start);
  return at >= 0n && at <= DATA_BYTES - 8 ? Number(at) : undefined;
}

/** TF would trap behind the instruction, and AC makes unaligned accesses fault where KVM runs ring 3 under the host's CR0. */
function popFlags(random: Random, fuzzCase: FuzzCase): void {
  const at = dataOffset(fuzzCase.slot, fuzzCase.gpr[RSP]!);
  if (at !== undefined) fuzzCase.data.words.push({ at, value: BigInt(random.word()) & ~0x40100n });
}

function steerMemory(
  fuzzCase: FuzzCase,
  encoding: Encoding,
  instruction: Instruction,
  operand: Operand,
  target: bigint,
  next: bigint,
): void {
  const { gpr } = fuzzCase;
  const bits = instruction.addressSize;
  const base = operand.segment === 4 ? fuzzCase.fsBase : operand.segment === 5 ? fuzzCase.gsBase : 0n;
  const offset = target - base;
  const index = operand.bank === "gpr" && operand.index >= 0 ? gpr[operand.index]! << BigInt(operand.scale) : 0n;
  if (operand.base >= 0) {
    // With one register in both places, where it leads is chance.
    if (operand.base === operand.index) return;
    const value = mask(bits, offset - index - operand.disp64);
    gpr[operand.base] = bits === 64 ? value : (gpr[operand.base]! & ~mask(bits, -1n)) | value;
    return;
  }
  if (operand.index >= 0 && operand.scale === 0) {
    gpr[operand.index] = mask(bits, offset - operand.disp64);
    return;
  }
  const view = new DataView(new ArrayBuffer(8));
  const displacement = offset - index - (operand.ripRelative ? next : 0n);
  view.setBigUint64(0, mask(64, displacement), true);
  const where = encoding.displacement >= 0 ? encoding.displacement : encoding.immediate;
  const size = encoding.displacement >= 0 ? encoding.displacementSize : bits / 8;
  for (let byte = 0; byte < size; byte++) encoding.bytes[where + byte] = view.getUint8(byte);
}

/** A near branch goes to a piece of code that leaves by exit 1; one of four bytes may also go anywhere. */
function steerBranch(
  random: Random,
  fuzzCase: FuzzCase,
  encoding: Encoding,
  instruction: Instruction,
  at: number,
): void {
  const { slot, bits } = fuzzCase;
  const where = encoding.immediate;
  const size = instruction.length - where;
  const after = at + instruction.length;
  let distance = 16 + random.below(96);
  // Not into the instruction itself, where other bytes begin than were compared.
  if (random.once(2)) distance = -30 - random.below(90);
  if (size >= 2) distance *= 1 + random.below(4);
  if (size === 4 && random.once(8)) distance = random.word() | 0x40000000;
  else if (after + distance + 8 <= CODE_BYTES && after + distance >= 0) {
    fuzzCase.code.push({ at: after + distance, bytes: exitCode(slot, bits, 1, after + distance) });
  }
  for (let byte = 0; byte < size; byte++) encoding.bytes[where + byte] = (distance >> (byte * 8)) & 0xff;
}
