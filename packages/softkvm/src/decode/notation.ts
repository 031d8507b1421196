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
 * ModRM byte; `xx-yy` is a range of opcodes, `+r` stands for eight that carry a register and `+cc` for sixteen that carry
 * a condition. Of several lines that match an encoding the first holds.
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

import { type Flow, type Form, Key, OPCODE_MAPS, type OpcodeMap, type Privilege } from "./form.ts";
import { NO_OPERANDS, readOperands } from "./operand-notation.ts";

/** What the rest of a line says, before operands and opcode have their part in it. */
interface Flags {
  mask: number;
  value: number;
  flow: Flow;
  privilege: Privilege;
  size64: Form["size64"];
  modes: Form["modes"];
  ignoresMod: boolean;
  lockable: boolean;
  ends: boolean;
}

/** Bits of `Form.mask` and `Form.value` that a flag asks for. */
const KEY_FLAGS: Record<string, readonly [mask: number, value: number]> = {
  reg: [Key.REGISTER, Key.REGISTER],
  mem: [Key.REGISTER, 0],
  w0: [Key.W, 0],
  w1: [Key.W, Key.W],
  l0: [Key.L, 0],
  l1: [Key.L, Key.L],
  b0: [Key.REX_B, 0],
};
const FIELD_FLAGS: Record<string, Partial<Flags>> = {
  i64: { modes: "legacy" },
  o64: { modes: "long" },
  d64: { size64: "default" },
  f64: { size64: "forced" },
  anymod: { ignoresMod: true },
  lock: { lockable: true },
  ends: { ends: true },
  kernel: { privilege: "kernel" },
  iopl: { privilege: "iopl" },
  umip: { privilege: "umip" },
  jump: { flow: "jump", ends: true },
  branch: { flow: "branch", ends: true },
  call: { flow: "call", ends: true },
  return: { flow: "return", ends: true },
  far: { flow: "far", ends: true },
  trap: { flow: "trap", ends: true },
};

const OPCODE = /^(?:([np63f2,]+)\.)?([0-9a-f]{2})(?:-([0-9a-f]{2}))?(?:\/([0-7])|:([0-9a-f]{2}))?(\+r|\+cc)?$/;
const PREFIX_KEYS: Record<string, number> = { np: Key.NP, "66": Key.P66, f3: Key.PF3, f2: Key.PF2 };
const ALL_PREFIXES = Key.NP | Key.P66 | Key.PF3 | Key.PF2;
/** `fcmovcc.7` is the form of `fcmovcc` with condition 7. */
const CONDITION_IN_NAME = /^(\w+)cc\.(\d+)$/;

/** The lines of all tables as forms, numbered in their order. */
export function readTables(tables: readonly string[]): Form[] {
  const forms: Form[] = [];
  let map: OpcodeMap = "one";
  let features: string[] = [];
  for (const line of tables.join("\n").split("\n")) {
    if (line === "" || line.startsWith("#")) continue;
    const words = line.split(" ");
    if (line.startsWith("[")) {
      map = words[0]!.slice(1) as OpcodeMap;
      features = words[1]!.slice(0, -1).split(",");
      if (!OPCODE_MAPS.includes(map)) throw new Error(`opcode table: unknown map in "${line}"`);
      continue;
    }
    readLine(words, map, features[0]!, forms, features.length > 1 ? ["l0"] : []);
    if (features.length > 1) readLine(words, map, features[1]!, forms, ["l1"]);
  }
  return forms;
}

function readLine(words: string[], map: OpcodeMap, feature: string, forms: Form[], moreFlags: string[]): void {
  const [opcodeText = "", name = "", third = ""] = words;
  const opcode = OPCODE.exec(opcodeText);
  if (!opcode || name === "") throw new Error(`opcode table: cannot read "${words.join(" ")}"`);
  const vex = map.startsWith("vex");
  const [, prefixes = vex ? "np" : undefined, first = "", last, reg, modrm, plus] = opcode;
  const byte = Number.parseInt(first, 16);
  const operands = readOperands(third) ?? NO_OPERANDS;
  const flags = readFlags([...words.slice(operands === NO_OPERANDS ? 2 : 3), ...moreFlags]);

  let { mask, value } = flags;
  if (prefixes !== undefined) {
    mask |= ALL_PREFIXES;
    for (const prefix of prefixes.split(",")) mask &= ~PREFIX_KEYS[prefix]!;
  }
  if (reg !== undefined) {
    mask |= 0x38;
    value |= Number(reg) << 3;
  }
  if (modrm !== undefined) {
    mask |= 0xff | Key.REGISTER;
    value |= Number.parseInt(modrm, 16) | Key.REGISTER;
  }
  if (operands.mod !== "any" && !flags.ignoresMod) {
    mask |= Key.REGISTER;
    if (operands.mod === "reg") value |= Key.REGISTER;
  }

  const named = CONDITION_IN_NAME.exec(name);
  const conditions = plus === "+cc" ? 16 : 1;
  for (let condition = 0; condition < conditions; condition++) {
    forms.push({
      id: forms.length,
      mnemonic: named ? `${named[1]}cc` : name,
      condition: named ? Number(named[2]) : plus === "+cc" ? condition : -1,
      operands: operands.specs,
      opcode: `${map} ${opcodeText}`,
      feature,
      flow: flags.flow,
      privilege: flags.privilege,
      lockable: flags.lockable,
      ends: flags.ends,
      size64: flags.size64,
      modes: flags.modes,
      map,
      byte: byte + condition,
      opcodes: plus === "+r" ? 8 : last === undefined ? 1 : Number.parseInt(last, 16) - byte + 1,
      hasModrm: reg !== undefined || modrm !== undefined || operands.hasModrm,
      ignoresMod: flags.ignoresMod,
      vsib: operands.vsib,
      usesVvvv: operands.usesVvvv,
      mask,
      value,
    });
  }
}

function readFlags(words: readonly string[]): Flags {
  const flags: Flags = {
    mask: 0,
    value: 0,
    flow: "next",
    privilege: "none",
    size64: "normal",
    modes: "all",
    ignoresMod: false,
    lockable: false,
    ends: false,
  };
  for (const word of words) {
    const bits = KEY_FLAGS[word];
    if (bits) {
      flags.mask |= bits[0];
      flags.value |= bits[1];
      continue;
    }
    const fields = FIELD_FLAGS[word];
    if (!fields) throw new Error(`opcode table: unknown operand or flag ${word}`);
    Object.assign(flags, fields);
  }
  return flags;
}
