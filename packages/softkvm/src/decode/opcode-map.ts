/** From opcode bytes to the forms that may be meant: the tables, arranged for one kind of processor and one mode. */

import { type Form, Key, OPCODE_MAPS } from "./form.ts";
import { readTables } from "./notation.ts";
import { TABLES } from "./tables/index.ts";
import { UNDEFINED } from "./tables/undefined.ts";

/** Every form there is; `form.id` is the index. */
export const FORMS: readonly Form[] = readTables(TABLES);

/** What else has a length, though it is no instruction. */
const UNDEFINED_FORMS = readTables([UNDEFINED]);
/** Mnemonic of such forms. */
export const UNDEFINED_MNEMONIC = "(bad)";

/** The features that forms name. */
export const FEATURES: ReadonlySet<string> = new Set(FORMS.map((form) => form.feature));

/** The forms of one opcode. */
export interface Opcode {
  readonly hasModrm: boolean;
  /** By ModRM.reg, and 8 more where mod is 3; the same list everywhere when ModRM does not matter. */
  readonly forms: readonly (readonly Form[])[];
}

/** Opcodes by `map * 256 + byte`, with maps as in `OPCODE_MAPS`. */
export type OpcodeMapTable = readonly (Opcode | undefined)[];

/** Where a ModRM byte's forms are in `Opcode.forms`. */
export function groupOf(modrm: number): number {
  return ((modrm >> 3) & 7) | (modrm >= 0xc0 ? 8 : 0);
}

/** The opcodes of a processor that has `features`, in 64-bit mode (`long`) or the others. */
export function arrangeOpcodes(mode: "legacy" | "long", features: ReadonlySet<string>): OpcodeMapTable {
  const lists: (Form[] | undefined)[] = new Array(OPCODE_MAPS.length * 256).fill(undefined);
  for (const form of [...FORMS, ...UNDEFINED_FORMS]) {
    const present = features.has(form.feature) || form.mnemonic === UNDEFINED_MNEMONIC;
    if (!present || (form.modes !== "all" && form.modes !== mode)) continue;
    const first = OPCODE_MAPS.indexOf(form.map) * 256 + form.byte;
    for (let opcode = first; opcode < first + form.opcodes; opcode++) {
      const list = lists[opcode];
      if (list) list.push(form);
      else lists[opcode] = [form];
    }
  }
  return lists.map((forms) => forms && arrange(forms));
}

const GROUP_BITS = 0x38 | Key.REGISTER;

function arrange(forms: Form[]): Opcode {
  const hasModrm = forms.some((form) => form.hasModrm);
  if (!forms.some((form) => form.mask & GROUP_BITS)) return { hasModrm, forms: new Array(16).fill(forms) };
  const groups = Array.from({ length: 16 }, (_, group) => {
    const key = ((group & 7) << 3) | (group & 8 ? Key.REGISTER : 0);
    return forms.filter((form) => ((key ^ form.value) & form.mask & GROUP_BITS) === 0);
  });
  return { hasModrm, forms: groups };
}
