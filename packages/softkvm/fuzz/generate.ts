/** Makes cases of one instruction. */

import { Decoder } from "../src/decode/decoder.ts";
import type { Form } from "../src/decode/form.ts";
import { type CodeSize, Instruction, Status } from "../src/decode/instruction.ts";
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
import { exitCode, type FuzzCase, initialXsave, Xsave } from "./case.ts";
import { type Encoding, encode, PREFIXES } from "./encode.ts";
import { CODE_BYTES, HIGH_ALIAS, linearOf, SlotPages } from "./layout.ts";
import { COMPARED_MICROCODE } from "./microcode.ts";
import { FEATURES } from "./processor.ts";
import { POOL, Random } from "./random.ts";
import { LANDING, RSP, steer } from "./steer.ts";

const PAGE = 0x1000;
const MAX_LENGTH = 15;

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
