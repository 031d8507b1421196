/**
 * What AMD's processors do otherwise than Intel's, which the software CPU follows: found by this fuzzer on family 26 (Zen 5). A
 * case that differs there in one of these ways is not comparable; all others have to agree on both.
 */

import type { CodeSize, Instruction } from "../src/decode/instruction.ts";

const FS = 0x64;
const GS = 0x65;
const LEGACY_PREFIXES: ReadonlySet<number> = new Set([0x26, 0x2e, 0x36, 0x3e, FS, GS, 0x66, 0x67, 0xf0, 0xf2, 0xf3]);

/**
 * The way's name, if it may be one of them. `faulted`: by Intel's ways the case ends in a fault; `refused`: by the processor's in a
 * #GP, or in the #UD of a kernel that emulates after that and does not know the instruction.
 */
export function amdsOwn(
  instruction: Instruction,
  bytes: Uint8Array,
  bits: CodeSize,
  { faulted, refused }: { faulted: boolean; refused: boolean },
): string | undefined {
  const { form, rep, addressSize, operandSize } = instruction;
  const { mnemonic } = form;
  const { legacy, rex } = prefixesOf(bytes);
  // Tables of their own; Intel's are in vector-unit/approximations.ts.
  if (/^v?r(cp|sqrt)[ps]s$/.test(mnemonic)) return "approximations";
  // Which of several becomes the sum.
  if (/^v?dpp[sd]$/.test(mnemonic)) return "NaNs of dot products";
  // Which elements have been loaded, and what is left of the mask.
  if (/^vp?gather/.test(mnemonic)) return "gathers";
  // "Undefined" for counts above the operand's size (APM vol. 3).
  if (/^sh[lr]d$/.test(mnemonic) && operandSize === 16) return "SHLD and SHRD of 16 bits";
  // APM vol. 3, Jcc: the operand size of near branches can be 16 in 64-bit code; Intel's ignore it there.
  if (bits === 64 && /^(j|call$|ret$|loop)/.test(mnemonic) && legacy.includes(0x66)) return "near branches of 16 bits";
  if (/^loopn?e$/.test(mnemonic) && rep !== 0) return "LOOPE and LOOPNE with REP";
  if (mnemonic === "pause" && (rex & 1) !== 0) return "XCHG of r8 with REP";
  // With a count of 0 Intel's clear the upper halves of the addresses.
  if (bits === 64 && rep !== 0 && addressSize === 32 && /^(movs|stos|lods|cmps|scas)$/.test(mnemonic)) {
    return "REP with addresses of 32 bits";
  }
  // Four bytes are read, of which two count: the others may fault.
  if (mnemonic === "movsxd" && operandSize === 16) return "MOVSXD of 16 bits";
  // The address has to be canonical before the base is added, too; Intel's look at the sum (SDM vol. 1, 3.3.7.1).
  if (refused && bits === 64 && (legacy.includes(FS) || legacy.includes(GS)))
    return "addresses without FS's or GS's base";
  if (!faulted) return undefined;
  // The state is MMX's (tags, TOP) before the store has faulted.
  if (form.feature === "mmx" || /^(movntq|movq|movd)$/.test(mnemonic)) return "MMX registers where a store faults";
  // Flags, and MXCSR's, are those of what was done before the fault.
  if (/^(cmps|scas)$/.test(mnemonic)) return "flags where REP CMPS or SCAS faults";
  // Intel's tell the last byte (SDM), these the second page's first.
  if (/^vp?maskmov.*\.store$/.test(mnemonic)) return "address where a masked store faults";
  // What lies in the first page has been written when the second faults.
  if (/^fb?stp$/.test(mnemonic)) return "half of a number of 80 bits";
  if (mnemonic === "vcvtps2ph") return "MXCSR where VCVTPS2PH faults";
  return undefined;
}

function prefixesOf(bytes: Uint8Array): { legacy: readonly number[]; rex: number } {
  const legacy: number[] = [];
  let at = 0;
  for (; LEGACY_PREFIXES.has(bytes[at]!); at++) legacy.push(bytes[at]!);
  return { legacy, rex: (bytes[at]! & 0xf0) === 0x40 ? bytes[at]! : 0 };
}
