/** What assemblers call an instruction: the suffixes for sizes and conditions, and names for some immediates. */

import type { Instruction } from "./instruction.ts";

export interface MnemonicText {
  mnemonic: string;
  /** An operand that the name says already, or -1. */
  hidden: number;
  /** The first operand is implied: the x87 stack's top, or the memory of maskmov and monitor. */
  dropFirst: boolean;
}

const CONDITIONS = ["o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g"];
const FCMOV_CONDITIONS: Record<number, string> = {
  2: "b",
  3: "nb",
  4: "e",
  5: "ne",
  6: "be",
  7: "nbe",
  10: "u",
  11: "nu",
};

/** Names that go by operand size, as [16, 32, 64]. */
const BY_OPERAND_SIZE: Record<string, readonly [string, string, string]> = {
  cbw: ["cbw", "cwde", "cdqe"],
  cwd: ["cwd", "cdq", "cqo"],
};
const OTHER_NAMES: Record<string, string> = {
  callf: "call",
  jmpf: "jmp",
  icebp: "int1",
};

const COMPARISONS = ["eq", "lt", "le", "unord", "neq", "nlt", "nle", "ord"];
const VEX_COMPARISONS = [
  ...[...COMPARISONS, "eq_uq", "nge", "ngt", "false", "neq_oq", "ge", "gt", "true"],
  ...["eq_os", "lt_oq", "le_oq", "unord_s", "neq_us", "nlt_uq", "nle_uq", "ord_s"],
  ...["eq_us", "nge_uq", "ngt_uq", "false_os", "neq_os", "ge_oq", "gt_oq", "true_us"],
];
const MULTIPLICATIONS: Record<number, string> = { 0: "lqlq", 1: "hqlq", 16: "lqhq", 17: "hqhq" };

export function formatMnemonic(instruction: Instruction): MnemonicText {
  const { form, operands, operandCount } = instruction;
  const dot = form.mnemonic.indexOf(".");
  const name = dot < 0 ? form.mnemonic : form.mnemonic.slice(0, dot);
  const text: MnemonicText = { mnemonic: OTHER_NAMES[name] ?? name, hidden: -1, dropFirst: false };
  if (form.condition >= 0) {
    const conditions = name === "fcmovcc" ? FCMOV_CONDITIONS : CONDITIONS;
    text.mnemonic = name.slice(0, -2) + conditions[form.condition];
    return text;
  }
  const sized = BY_OPERAND_SIZE[name];
  if (sized) text.mnemonic = sized[instruction.operandSize >> 5 === 0 ? 0 : instruction.operandSize === 32 ? 1 : 2]!;
  if (name === "movd" || name === "vmovd" || PER_ELEMENT.test(name)) {
    const size = operands
      .slice(0, operandCount)
      .find((operand) => operand.kind === "mem" || operand.bank === "gpr")?.size;
    if (size === 8) text.mnemonic = `${name.slice(0, -1)}q`;
  }
  if (name === "jcxz") text.mnemonic = { 16: "jcxz", 32: "jecxz", 64: "jrcxz" }[instruction.addressSize]!;
  const comparison = COMPARISON.exec(name);
  if (comparison) {
    const last = operandCount - 1;
    const names = comparison[1] === "v" ? VEX_COMPARISONS : COMPARISONS;
    const predicate = names[operands[last as 0].value];
    if (predicate !== undefined) {
      text.mnemonic = `${comparison[1]}cmp${predicate}${comparison[2]}`;
      text.hidden = last;
    }
  }
  if (name === "pclmulqdq" || name === "vpclmulqdq") {
    const which = MULTIPLICATIONS[operands[(operandCount - 1) as 0].value];
    if (which) {
      text.mnemonic = name.replace("qdq", `${which}dq`);
      text.hidden = operandCount - 1;
    }
  }
  if (name === "monitor" || name.startsWith("maskmov") || name.startsWith("vmaskmovdqu")) text.dropFirst = true;
  if (form.opcode.startsWith("one d") && form.operands[0]?.text === "ST") {
    const memory = operands[1].kind === "mem";
    text.dropFirst = memory || STACK_IMPLIED.test(name);
  }
  return text;
}

const PER_ELEMENT = /^v?p(insr|extr)d$/;
const COMPARISON = /^(v?)cmp([ps][sd])$/;
/** x87 comparisons and exchanges that name only the other register. */
const STACK_IMPLIED = /^(fcomp?|fucomp?|fxch)$/;
