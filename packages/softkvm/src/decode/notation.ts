/**
 * Reads the opcode tables. They are written in the notation of the Intel SDM, vol. 2, appendix A.2, one encoding a line:
 *
 *     opcode   mnemonic   operands   flags
 *     f3.ae/1  rdgsbase   Ry         o64
 *
 * `[map feature]` on a line of its own begins a section, `[map feature,feature]` one in which every line stands for two
 * forms, one with VEX.L clear and one with it set, that came with different features; `#` begins a comment.
 *
 * **Opcode**: a byte in hexadecimal. Before it, the mandatory prefix, or several by commas, out of `np`, `66`, `f3` and
 * `f2`; without, a legacy encoding takes any, and a VEX encoding `np`. After it, `/n` is ModRM.reg and `:xx` the whole
 * ModRM byte; `xx-yy` is a range of opcodes, `+r` stands for eight that carry a register and `+cc` for sixteen that carry a condition. Of several
 * lines that match an encoding the first holds.
 *
 * **Operands**: a letter for the place and one for the size. Places: E G R Z general register or memory by ModRM, by its
 * reg field, by its rm field without memory, by the opcode; B by VEX.vvvv. V W U H L likewise for xmm and ymm (L: upper
 * half of an immediate); P Q N for mm. M memory only, T memory with a vector as index. S C D segment, control and debug
 * registers. I immediate, sI sign-extended to operand size, J relative target, A far pointer, O absolute address. X Y
 * strings at rSI and rDI, BA BB BD memory at rAX, rBX and rDI. STi x87 register by rm. Ours: Z, T and sI.
 *
 * Sizes: b w d q t dq qq are 1, 2, 4, 8, 10, 16 and 32 bytes; ss sd as d q; ps pd x are 16, or 32 with VEX.L, and h f e a
 * half, a fourth and an eighth of that; v z y n p s a as in `Size`; env and sta x87's. None: no extent.
 *
 * **Flags**: `i64` invalid in 64-bit mode, `o64` only valid there, `d64` `f64` operand size there; `w0` `w1` `l0` `l1`
 * REX.W, VEX.W and VEX.L; `b0` no REX.B; `mem` `reg` what ModRM must name where no operand says so, `anymod` whatever mod
 * says it is a register; `lock`; `kernel` `iopl` `umip` privilege; `jump` `branch` `call` `return` `far` `trap` flow; `ends`
 * changes state that translation of the code after it depends on.
 */

import {
  type Flow,
  type Form,
  Key,
  OPCODE_MAPS,
  type OpcodeMap,
  type OperandSpec,
  type Privilege,
  Size,
  Source,
} from "./form.ts";
import type { Bank } from "./instruction.ts";

const SIZES: Record<string, number> = {
  "": 0,
  ...{ b: 1, w: 2, d: 4, q: 8, t: 10, dq: 16, qq: 32, ss: 4, sd: 8 },
  ...{ v: Size.V, z: Size.Z, y: Size.Y, n: Size.N, p: Size.P, s: Size.S, a: Size.A },
  ...{ x: Size.X, ps: Size.X, pd: Size.X, h: Size.X2, f: Size.X4, e: Size.X8, env: Size.ENV, sta: Size.STATE },
};

/** A mod that an operand forces: only registers, only memory, or as the bits say. */
type Mod = "reg" | "mem" | "any";
interface Place {
  source: Source;
  bank: Bank;
  mod?: Mod;
  reg?: number;
}

const PLACES: Record<string, Place> = {
  E: { source: Source.MODRM_RM, bank: "gpr" },
  G: { source: Source.MODRM_REG, bank: "gpr" },
  R: { source: Source.MODRM_RM, bank: "gpr", mod: "reg" },
  Z: { source: Source.OPCODE, bank: "gpr" },
  B: { source: Source.VVVV, bank: "gpr" },
  V: { source: Source.MODRM_REG, bank: "xmm" },
  W: { source: Source.MODRM_RM, bank: "xmm" },
  U: { source: Source.MODRM_RM, bank: "xmm", mod: "reg" },
  H: { source: Source.VVVV, bank: "xmm" },
  L: { source: Source.IS4, bank: "xmm" },
  P: { source: Source.MODRM_REG, bank: "mm" },
  Q: { source: Source.MODRM_RM, bank: "mm" },
  N: { source: Source.MODRM_RM, bank: "mm", mod: "reg" },
  M: { source: Source.MODRM_RM, bank: "gpr", mod: "mem" },
  Tx: { source: Source.VSIB, bank: "ymm", mod: "mem" },
  To: { source: Source.VSIB, bank: "xmm", mod: "mem" },
  S: { source: Source.MODRM_REG, bank: "seg" },
  C: { source: Source.MODRM_REG, bank: "cr" },
  D: { source: Source.MODRM_REG, bank: "dr" },
  STi: { source: Source.MODRM_RM, bank: "st", mod: "reg" },
  I: { source: Source.IMM, bank: "gpr" },
  sI: { source: Source.SIGNED, bank: "gpr" },
  J: { source: Source.REL, bank: "gpr" },
  A: { source: Source.FAR, bank: "gpr" },
  O: { source: Source.MOFFS, bank: "gpr" },
  X: { source: Source.AT_REGISTER, bank: "gpr", reg: 6 },
  Y: { source: Source.ES_DI, bank: "gpr", reg: 7 },
  BA: { source: Source.AT_REGISTER, bank: "gpr", reg: 0 },
  BB: { source: Source.AT_REGISTER, bank: "gpr", reg: 3 },
  BD: { source: Source.AT_REGISTER, bank: "gpr", reg: 7 },
};

const gpr = (reg: number, size: number): OperandSpec => fixed("gpr", reg, size);
function fixed(bank: Bank, reg: number, size: number): OperandSpec {
  return { text: "", source: Source.FIXED, bank, size, reg };
}

const FIXED: Record<string, OperandSpec> = {
  AL: gpr(0, 1),
  AX: gpr(0, 2),
  eAX: gpr(0, Size.Z),
  rAX: gpr(0, Size.V),
  CL: gpr(1, 1),
  DX: gpr(2, 2),
  ES: fixed("seg", 0, 2),
  CS: fixed("seg", 1, 2),
  SS: fixed("seg", 2, 2),
  DS: fixed("seg", 3, 2),
  FS: fixed("seg", 4, 2),
  GS: fixed("seg", 5, 2),
  ST: fixed("st", 0, 10),
  XMM0: fixed("xmm", 0, 16),
  "1": { text: "1", source: Source.ONE, bank: "gpr", size: 1, reg: 0 },
};

const OPERAND = /^(STi|sI|T[xo]|B[ABD]|[A-Z])([a-z]*)$/;

/** Specs are shared among forms: there are some 150 different operands. */
const specs = new Map<string, OperandSpec & { mod: Mod }>();

function operandSpec(text: string): OperandSpec & { mod: Mod } {
  const known = specs.get(text);
  if (known) return known;
  const spec = readOperand(text);
  specs.set(text, spec);
  return spec;
}

function readOperand(text: string): OperandSpec & { mod: Mod } {
  const named = FIXED[text];
  if (named) return { ...named, text, mod: "any" };
  const [, letter = "", sizeText = ""] = OPERAND.exec(text) ?? [];
  const place = PLACES[letter];
  const size = letter === "STi" ? 10 : SIZES[sizeText];
  if (place === undefined || size === undefined) throw new Error(`opcode table: unknown operand ${text}`);
  // Immediates of operand size are extended to it.
  const source = place.source === Source.IMM && size >= Size.V ? Source.SIGNED : place.source;
  return { text, source, bank: place.bank, size, reg: place.reg ?? 0, mod: place.mod ?? "any" };
}

const OPCODE = /^(?:([np63f2,]+)\.)?([0-9a-f]{2})(?:-([0-9a-f]{2}))?(?:\/([0-7])|:([0-9a-f]{2}))?(\+r|\+cc)?$/;
const SECTION = /^\[(\S+) (\S+)\]$/;
const PREFIX_KEYS: Record<string, number> = { np: Key.NP, "66": Key.P66, f3: Key.PF3, f2: Key.PF2 };
const FLOWS: readonly string[] = ["jump", "branch", "call", "return", "far", "trap"] satisfies Flow[];
const PRIVILEGES: readonly string[] = ["kernel", "iopl", "umip"] satisfies Privilege[];
const FLAGS: readonly string[] = [
  ...[...FLOWS, ...PRIVILEGES, "i64", "o64", "d64", "f64", "w0", "w1", "l0", "l1", "b0"],
  ...["mem", "reg", "anymod", "lock", "ends"],
];

/** The lines of all tables as forms, numbered in their order. */
export function readTables(tables: readonly string[]): Form[] {
  const forms: Form[] = [];
  let map: OpcodeMap = "one";
  let feature = "";
  for (const raw of tables.join("\n").split("\n")) {
    const line = raw.replace(/#.*/, "").trim();
    if (line === "") continue;
    const section = SECTION.exec(line);
    if (section) {
      map = section[1] as OpcodeMap;
      feature = section[2]!;
      if (!OPCODE_MAPS.includes(map)) throw new Error(`opcode table: unknown map ${map}`);
      continue;
    }
    const [feature128, feature256] = feature.split(",");
    readLine(line, map, feature128!, feature256 === undefined ? "" : "l0", forms);
    if (feature256 !== undefined) readLine(line, map, feature256, "l1", forms);
  }
  return forms;
}

function readLine(line: string, map: OpcodeMap, feature: string, moreFlags: string, forms: Form[]): void {
  const words = `${line} ${moreFlags}`.trim().split(/\s+/);
  const opcode = OPCODE.exec(words[0]!);
  const mnemonic = words[1];
  if (!opcode || mnemonic === undefined) throw new Error(`opcode table: cannot read "${line}"`);
  const [, prefixes = map.startsWith("vex") ? "np" : undefined, byteText, lastText, regText, modrmText, plus] = opcode;
  const byte = Number.parseInt(byteText!, 16);
  const hasOperands = words[2] !== undefined && !FLAGS.includes(words[2]);
  const flags = new Set(words.slice(hasOperands ? 3 : 2));
  for (const flag of flags)
    if (!FLAGS.includes(flag)) throw new Error(`opcode table: unknown flag ${flag} in "${line}"`);
  const operands = hasOperands ? words[2]!.split(",").map(operandSpec) : [];

  let mask = 0;
  let value = 0;
  const require = (bits: number, wanted: number) => {
    mask |= bits;
    value |= wanted;
  };
  if (prefixes !== undefined) {
    const allowed = prefixes.split(",").reduce((keys, prefix) => keys | PREFIX_KEYS[prefix]!, 0);
    require((Key.NP | Key.P66 | Key.PF3 | Key.PF2) & ~allowed, 0);
  }
  if (regText !== undefined) require(0x38, Number(regText) << 3);
  if (modrmText !== undefined) require(0xff | Key.REGISTER, Number.parseInt(modrmText, 16) | Key.REGISTER);
  const mods = flags.has("anymod") ? [] : operands.map((spec) => spec.mod);
  if (flags.has("reg") || mods.includes("reg")) require(Key.REGISTER, Key.REGISTER);
  if (flags.has("mem") || mods.includes("mem")) require(Key.REGISTER, 0);
  if (flags.has("w0")) require(Key.W, 0);
  if (flags.has("w1")) require(Key.W, Key.W);
  if (flags.has("l0")) require(Key.L, 0);
  if (flags.has("l1")) require(Key.L, Key.L);
  if (flags.has("b0")) require(Key.REX_B, 0);

  const flow = (FLOWS.find((name) => flags.has(name)) ?? "next") as Flow;
  const vsib = operands.some((spec) => spec.source === Source.VSIB);
  const usesModrm = (spec: OperandSpec) =>
    spec.source === Source.MODRM_REG || spec.source === Source.MODRM_RM || spec.source === Source.VSIB;
  const conditions = plus === "+cc" ? Array.from({ length: 16 }, (_, condition) => condition) : [-1];
  const codes = CONDITION_IN_NAME.exec(mnemonic);
  for (const condition of conditions) {
    forms.push({
      id: forms.length,
      mnemonic: codes ? `${codes[1]}cc` : mnemonic,
      condition: codes ? Number(codes[2]) : condition,
      operands,
      opcode: `${map} ${words[0]}`,
      feature,
      flow,
      privilege: (PRIVILEGES.find((name) => flags.has(name)) ?? "none") as Privilege,
      lockable: flags.has("lock"),
      ends: flow !== "next" || flags.has("ends"),
      size64: flags.has("f64") ? "forced" : flags.has("d64") ? "default" : "normal",
      modes: flags.has("i64") ? "legacy" : flags.has("o64") ? "long" : "all",
      map,
      byte: byte + Math.max(condition, 0),
      opcodes: plus === "+r" ? 8 : lastText === undefined ? 1 : Number.parseInt(lastText, 16) - byte + 1,
      hasModrm: regText !== undefined || modrmText !== undefined || operands.some(usesModrm),
      ignoresMod: flags.has("anymod"),
      vsib,
      usesVvvv: operands.some((spec) => spec.source === Source.VVVV),
      mask,
      value,
    });
  }
}

/** `fcmovcc.7` is the form of `fcmovcc` with condition 7. */
const CONDITION_IN_NAME = /^(\w+)cc\.(\d+)$/;
