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

const GROUP_BITS = 0x38 | Key.REGISTER;
const NO_GROUPS: undefined[] = [];

/** The forms of one opcode. */
export class Opcode {
  hasModrm = false;
  readonly #forms: Form[] = [];
  /** By ModRM.reg, and 8 more where mod is 3. Made when first asked for: a guest uses few of the tables. */
  #groups: (readonly Form[] | undefined)[] = NO_GROUPS;

  add(form: Form): void {
    this.#forms.push(form);
    this.hasModrm ||= form.hasModrm;
  }

  /** Those that a ModRM byte's reg and mod leave, in the tables' order. */
  candidates(modrm: number): readonly Form[] {
    const group = ((modrm >> 3) & 7) | (modrm >= 0xc0 ? 8 : 0);
    return this.#groups[group] ?? this.#fill(group);
  }

  #fill(group: number): readonly Form[] {
    const key = ((group & 7) << 3) | (group & 8 ? Key.REGISTER : 0);
    const forms = this.#forms.filter((form) => ((key ^ form.value) & form.mask & GROUP_BITS) === 0);
    if (this.#groups === NO_GROUPS) this.#groups = new Array(16).fill(undefined);
    this.#groups[group] = forms;
    return forms;
  }
}

/** Opcodes by `map * 256 + byte`, with maps as in `OPCODE_MAPS`. */
export type OpcodeMapTable = readonly (Opcode | undefined)[];

/** The opcodes of a processor that has `features`, in 64-bit mode (`long`) or the others. */
export function arrangeOpcodes(mode: "legacy" | "long", features: ReadonlySet<string>): OpcodeMapTable {
  const opcodes: (Opcode | undefined)[] = new Array(OPCODE_MAPS.length * 256).fill(undefined);
  for (const form of [...FORMS, ...UNDEFINED_FORMS]) {
    const present = features.has(form.feature) || form.mnemonic === UNDEFINED_MNEMONIC;
    if (!present || (form.modes !== "all" && form.modes !== mode)) continue;
    const first = OPCODE_MAPS.indexOf(form.map) * 256 + form.byte;
    for (let opcode = first; opcode < first + form.opcodes; opcode++) {
      let entry = opcodes[opcode];
      if (entry === undefined) {
        entry = new Opcode();
        opcodes[opcode] = entry;
      }
      entry.add(form);
    }
  }
  return opcodes;
}
