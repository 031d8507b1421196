/** What the opcode tables are made of, and what one line of them becomes. */

import type { Bank } from "./instruction.ts";

/** Where an operand comes from. */
export const Source = {
  /** A register that the opcode names. */
  FIXED: 0,
  /** The opcode's low three bits with REX.B. */
  OPCODE: 1,
  MODRM_REG: 2,
  /** ModRM's mod and rm: register or memory. */
  MODRM_RM: 3,
  /** Likewise, with a vector register as index. */
  VSIB: 4,
  VVVV: 5,
  /** The upper half of an immediate byte. */
  IS4: 6,
  /** An immediate, zero-extended. */
  IMM: 7,
  /** An immediate, sign-extended. */
  SIGNED: 8,
  /** The 1 of `shl r, 1`, which no byte encodes. */
  ONE: 9,
  REL: 10,
  FAR: 11,
  /** An absolute address of address size after the opcode. */
  MOFFS: 12,
  /** ES:rDI, whose segment cannot be overridden. */
  ES_DI: 13,
  /** Memory at a fixed register in the data segment or the override's: rSI of strings, rBX of xlat, rDI of maskmov. */
  AT_REGISTER: 14,
} as const;
export type Source = (typeof Source)[keyof typeof Source];

/** Sizes that depend on prefixes; below 64, a size is itself in bytes. */
export const Size = {
  /** Operand size: 2, 4 or 8. */
  V: 64,
  /** Operand size, but 4 for 64 bits; an immediate of this size is sign-extended to the operand size. */
  Z: 65,
  /** 8 with REX.W or VEX.W in 64-bit mode, else 4. */
  Y: 66,
  /** 8 in 64-bit mode, else 4: control registers and their like, which ignore operand size. */
  N: 67,
  /** A far pointer in memory: operand size and 2. */
  P: 68,
  /** A descriptor table register's image: 6, in 64-bit mode 10. */
  S: 69,
  /** Two of operand size. */
  A: 70,
  /** 16, with VEX.L 32; then a half, a quarter and an eighth of that. */
  X: 71,
  X2: 72,
  X4: 73,
  X8: 74,
  /** x87 environment: 14 with 16-bit operand size, else 28. */
  ENV: 75,
  /** x87 state: 94 or 108. */
  STATE: 76,
} as const;

/** `one` is the map without an escape byte; the VEX maps have their own meanings for the same opcodes. */
export const OPCODE_MAPS = ["one", "0f", "0f38", "0f3a", "vex.0f", "vex.0f38", "vex.0f3a"] as const;
export type OpcodeMap = (typeof OPCODE_MAPS)[number];

export interface OperandSpec {
  /** As the table writes it, such as `Ev`. */
  readonly text: string;
  readonly source: Source;
  /** For vector registers `xmm`; whether it is a `ymm` follows from the size. */
  readonly bank: Bank;
  /** Bytes or one of `Size`. */
  readonly size: number;
  /** The register of `FIXED` and `AT_REGISTER`. */
  readonly reg: number;
}

/** How control leaves the instruction. `trap` enters the kernel or the hypervisor; `far` loads CS. */
export type Flow = "next" | "jump" | "branch" | "call" | "return" | "far" | "trap";

/** Who may execute it: everyone, ring 0, those whom IOPL or the permission bitmap allows, those whom UMIP allows. */
export type Privilege = "none" | "kernel" | "iopl" | "umip";

export interface Form {
  /** Index in `FORMS`. */
  readonly id: number;
  /** One mnemonic is one meaning. What follows a dot tells apart meanings that share a name: `imul.wide`. */
  readonly mnemonic: string;
  /** Condition code 0 to 15 of `jcc`, `setcc`, `cmovcc` and `fcmovcc`, else -1. */
  readonly condition: number;
  readonly operands: readonly OperandSpec[];
  /** The map and opcode as the table writes them, such as `0f ae/0`. */
  readonly opcode: string;
  /** Name of the feature that the processor must have, such as `sse4_1` (Linux's names in /proc/cpuinfo). */
  readonly feature: string;
  readonly flow: Flow;
  readonly privilege: Privilege;
  /** LOCK is allowed when the first operand is memory. */
  readonly lockable: boolean;
  /** Compiled code has to end here: control leaves, or the instruction changes how what follows is translated. */
  readonly ends: boolean;
  /** 64-bit mode: operand size is 64 unless 66 makes it 16 (`default`), or whatever the prefixes say (`forced`). */
  readonly size64: "normal" | "default" | "forced";
  /** Whether 64-bit mode has it, the other modes have it, or both. */
  readonly modes: "all" | "legacy" | "long";
  readonly map: OpcodeMap;
  /** The opcode byte, the first of several. */
  readonly byte: number;
  readonly opcodes: number;
  readonly hasModrm: boolean;
  /** ModRM names a register whatever its mod says: moves to and from control and debug registers. */
  readonly ignoresMod: boolean;
  /** Memory with a vector as index: a gather. */
  readonly vsib: boolean;
  readonly usesVvvv: boolean;

  /** The encoding's key (see `Key`) has to have `value` under `mask`. */
  readonly mask: number;
  readonly value: number;
}

/** Bits of what chooses among the forms of one opcode. Below them is the ModRM byte. */
export const Key = {
  /** Exactly one of the next four: the mandatory prefix, where F2 and F3 go before 66. */
  NP: 1 << 8,
  P66: 1 << 9,
  PF3: 1 << 10,
  PF2: 1 << 11,
  /** ModRM.mod is 3. */
  REGISTER: 1 << 12,
  W: 1 << 13,
  L: 1 << 14,
  REX_B: 1 << 15,
} as const;
