/** Operands as the opcode tables write them; the notation is explained in notation.ts. */

import { type OperandSpec, Size, Source } from "./form.ts";
import type { Bank } from "./instruction.ts";

const SIZES: Record<string, number> = {
  "": 0,
  ...{ b: 1, w: 2, d: 4, q: 8, t: 10, dq: 16, qq: 32, ss: 4, sd: 8 },
  ...{ v: Size.V, z: Size.Z, y: Size.Y, n: Size.N, p: Size.P, s: Size.S, a: Size.A },
  ...{ x: Size.X, ps: Size.X, pd: Size.X, h: Size.X2, f: Size.X4, e: Size.X8, env: Size.ENV, sta: Size.STATE },
};

/** A mod that an operand forces: only registers, only memory, or as the bits say. */
export type Mod = "reg" | "mem" | "any";
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

/** The operands of a form, and what follows from them. Forms with the same operands share this. */
export interface OperandList {
  readonly specs: readonly OperandSpec[];
  readonly hasModrm: boolean;
  readonly mod: Mod;
  readonly vsib: boolean;
  readonly usesVvvv: boolean;
}

export const NO_OPERANDS: OperandList = { specs: [], hasModrm: false, mod: "any", vsib: false, usesVvvv: false };

/** Some 200 lists make up all tables. */
const lists = new Map<string, OperandList>();

/** Reads operands separated by commas; undefined if that is not what the text is. */
export function readOperands(text: string): OperandList | undefined {
  const known = lists.get(text);
  if (known) return known;
  const list = { specs: [] as OperandSpec[], hasModrm: false, mod: "any" as Mod, vsib: false, usesVvvv: false };
  for (const operand of text.split(",")) {
    const [spec, mod] = readOperand(operand) ?? [];
    if (spec === undefined || mod === undefined) return undefined;
    list.specs.push(spec);
    if (mod !== "any") list.mod = mod;
    if (spec.source === Source.VSIB) list.vsib = true;
    if (spec.source === Source.VVVV) list.usesVvvv = true;
    const { source } = spec;
    if (source === Source.MODRM_REG || source === Source.MODRM_RM || source === Source.VSIB) list.hasModrm = true;
  }
  lists.set(text, list);
  return list;
}

function readOperand(text: string): [OperandSpec, Mod] | undefined {
  const named = FIXED[text];
  if (named) return [{ ...named, text }, "any"];
  const [, letter = "", sizeText = ""] = OPERAND.exec(text) ?? [];
  const place = PLACES[letter];
  const size = letter === "STi" ? 10 : SIZES[sizeText];
  if (place === undefined || size === undefined) return undefined;
  // Immediates of operand size are extended to it.
  const source = place.source === Source.IMM && size >= Size.V ? Source.SIGNED : place.source;
  return [{ text, source, bank: place.bank, size, reg: place.reg ?? 0 }, place.mod ?? "any"];
}
