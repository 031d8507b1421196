/**
 * Flags that an instruction leaves undefined (Intel SDM vol. 2, "Flags Affected" of each). The software CPU gives them
 * the values that the processors of `IS_VERIFIED` do, so that nothing is masked there.
 */

const CF = 0x1;
const PF = 0x4;
const AF = 0x10;
const ZF = 0x40;
const SF = 0x80;
const OF = 0x800;

const GROUPS: readonly [mnemonics: string, flags: number][] = [
  ["and or xor test", AF],
  // OF for counts other than 1, CF for counts from the operand's size on.
  ["shl sal shr sar", CF | AF | OF],
  ["rol ror rcl rcr", OF],
  ["shld shrd", CF | PF | AF | ZF | SF | OF],
  ["mul imul imul.wide", PF | AF | ZF | SF],
  ["div idiv", CF | PF | AF | ZF | SF | OF],
  ["bsf bsr", CF | PF | AF | SF | OF],
  ["bt bts btr btc", PF | AF | SF | OF],
  ["tzcnt lzcnt", PF | AF | SF | OF],
  ["andn blsi blsr blsmsk bzhi", PF | AF],
  ["bextr", PF | AF | SF],
];

/** By mnemonic. */
export const UNDEFINED_FLAGS: ReadonlyMap<string, number> = new Map(
  GROUPS.flatMap(([mnemonics, flags]) => mnemonics.split(" ").map((mnemonic): [string, number] => [mnemonic, flags])),
);
