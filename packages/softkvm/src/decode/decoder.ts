/**
 * The instruction decoder (Intel SDM vol. 2, chapter 2). Where processors differ it does as Intel's do: near branches
 * ignore an operand size prefix in 64-bit mode, and far pointers in memory have 64 bits of offset with REX.W.
 *
 * Bytes are taken strictly in order, and only those that belong to the instruction, so a fault on the next page is raised
 * only if that page is needed. As on processors, the length comes first: bytes that are missing or too many go before #UD,
 * even where there is no such instruction (see tables/undefined.ts).
 */

import { readAddress } from "./address.ts";
import { type Form, Key } from "./form.ts";
import { type CodeSize, type Instruction, Status } from "./instruction.ts";
import { arrangeOpcodes, FEATURES, type Opcode, type OpcodeMapTable, UNDEFINED_MNEMONIC } from "./opcode-map.ts";
import { isValidGather, OperandReader, Rex } from "./operand-reader.ts";

export { FORMS } from "./opcode-map.ts";

/** No instruction may be longer. */
const MAX_LENGTH = 15;

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

  readonly #reader = new OperandReader();

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
    let vexLong = false;
    let vvvv = 0;
    if (opcode === 0x0f) {
      if (position >= limit) return short;
      opcode = bytes[position++]!;
      map = MAP_0F;
      if (opcode >= 0x38 && opcode <= 0x3f) {
        // 39 and 3b to 3f are escapes to maps that are empty so far, and measured like one of these two.
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
        rex = first & 0x80 ? 0 : Rex.R;
        if (payload > 1) rex |= (first & 0x40 ? 0 : Rex.X) | (first & 0x20 ? 0 : Rex.B) | (second & 0x80 ? Rex.W : 0);
        // Elsewhere there are eight registers: R and X are as LES demands, and B does not count.
        if (!long) rex &= Rex.W;
        // Unused, vvvv has to be 0 (as encoded, all ones) in every mode.
        vvvv = (~second >> 3) & 15;
        vexLong = (second & 4) !== 0;
        key = PREFIX_KEY[second & 3]! | (vexLong ? Key.L : 0);
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
    if (rex & Rex.W) key |= Key.W;
    if (rex & Rex.B) key |= Key.REX_B;
    const form = choose(entry.candidates(modrm), key);
    out.length = position - offset;
    if (form === undefined) return Status.UNDEFINED;

    const operandSize = operandSizeOf(form, bits, (rex & Rex.W) !== 0, operandPrefix);
    const addressSize = long ? (addressPrefix ? 32 : 64) : (bits === 32) === addressPrefix ? 16 : 32;

    const reader = this.#reader;
    if (form.ignoresMod) modrm |= 0xc0;
    if (entry.hasModrm && modrm < 0xc0) {
      position = readAddress(bytes, position, limit, modrm, rex, addressSize, long, form.vsib, reader.memory);
      if (position < 0) return short;
      if (segment >= 0) reader.memory.segment = segment;
    }

    reader.bytes = bytes;
    reader.position = position;
    reader.limit = limit;
    reader.bits = bits;
    reader.rex = rex;
    reader.hasRex = hasRex;
    reader.vexLong = vexLong;
    reader.vvvv = vvvv;
    reader.opcode = opcode;
    reader.modrm = modrm;
    reader.operandSize = operandSize;
    reader.addressSize = addressSize;
    reader.segment = segment;
    const specs = form.operands;
    let valid = !reserved && form.mnemonic !== UNDEFINED_MNEMONIC;
    for (let i = 0; i < specs.length; i++) {
      const result = reader.read(specs[i]!, out.operands[i as 0]);
      if (result === Status.MORE) return short;
      if (result !== Status.OK) valid = false;
    }
    if (lock && !(form.lockable && out.operands[0].kind === "mem")) valid = false;
    if (vex && (hasRex || mandatory !== 0 || (vvvv !== 0 && !form.usesVvvv))) valid = false;
    if (form.vsib && !isValidGather(out)) valid = false;
    out.length = reader.position - offset;
    if (!valid) return Status.UNDEFINED;

    out.form = form;
    out.bits = bits;
    out.operandSize = operandSize;
    out.addressSize = addressSize;
    out.lock = lock;
    out.rep = rep;
    out.segmentOverride = segment;
    out.wide = (rex & Rex.W) !== 0;
    out.vexLong = vexLong;
    out.operandCount = specs.length;
    return Status.OK;
  }
}

function choose(forms: readonly Form[], key: number): Form | undefined {
  for (let i = 0; i < forms.length; i++) {
    const form = forms[i]!;
    if ((key & form.mask) === form.value) return form;
  }
  return undefined;
}

function operandSizeOf(form: Form, bits: CodeSize, wide: boolean, prefix: boolean): number {
  if (bits !== 64) return (bits === 32) === prefix ? 16 : 32;
  if (wide || form.size64 === "forced") return 64;
  if (prefix) return 16;
  return form.size64 === "default" ? 64 : 32;
}
