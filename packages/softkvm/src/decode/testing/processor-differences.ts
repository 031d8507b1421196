/** Where a processor and the decoder differ on purpose: what ring 3 cannot have, and extensions newer than the decoder's. */

/** Valid, but #UD outside ring 0, in compatibility mode on Intel, without VMX or SMM, or always. */
export const UNDEFINED_IN_RING_3: ReadonlySet<string> = new Set([
  ...["ud0", "ud1", "ud2", "rsm", "monitor", "mwait", "clac", "stac", "vmmcall", "vmcall"],
]);
/** The same outside 64-bit mode. */
export const UNDEFINED_IN_COMPATIBILITY: ReadonlySet<string> = new Set(["syscall", "sysret"]);

const PREFIXES = "^(?:(?:26|2e|36|3e|64|65|66|67|f2|f3)*(?:4.)?)";
/** VEX with map 1 (either length), 2 or 3, up to the opcode. */
const VEX_0F = `${PREFIXES}(?:c5..|c4.1..)`;
const VEX_0F38 = `${PREFIXES}c4.2..`;
const VEX_0F3A = `${PREFIXES}c4.3..`;

/** Encodings, as hexadecimal, that newer processors have a use for. */
const NEWER: Record<string, RegExp> = {
  "AVX-512 mask registers": new RegExp(`${VEX_0F}(?:4[124567ab]|9[012389])|${VEX_0F3A}3[0-3]`),
  "AVX-VNNI and AVX-IFMA": new RegExp(`${VEX_0F38}(?:5[0-3]|b[45])`),
  GFNI: new RegExp(`${PREFIXES}(?:0f38cf|0f3ac[ef])|${VEX_0F38}cf|${VEX_0F3A}c[ef]`),
  "VAES and VPCLMULQDQ": new RegExp(`${VEX_0F38}d[c-f]|${VEX_0F3A}44`),
  "AVX-512": new RegExp(`${PREFIXES}62`),
  TSX: new RegExp(`${PREFIXES}(?:c[67]f8|0f01d[56])`),
  "AMX tiles": new RegExp(`${VEX_0F38}(?:4[9b]|5[ce])`),
  "SERIALIZE, XSUSLDTRK, XRESLDTRK, HRESET, PTWRITE, WAITPKG, SGX, TDX, user interrupts": new RegExp(
    `${PREFIXES}(?:0f01(?:e[89c-f]|c[c-f]|d7)|0f3af0|0fae[2367abef][0-7]|0fc7f)`,
  ),
  "MOVDIRI, MOVDIR64B, ENQCMD": new RegExp(`${PREFIXES}0f38f[89]`),
};

/** Which of them this is. */
export function newerExtension(hex: string): string | undefined {
  return Object.keys(NEWER).find((name) => NEWER[name]!.test(hex));
}
