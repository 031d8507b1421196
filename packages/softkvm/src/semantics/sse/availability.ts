/**
 * Vector instructions that the control registers switch off: CR0.EM makes them #UD, CR0.TS #NM, and without CR4.OSFXSR
 * those on xmm registers are #UD (Intel SDM vol. 3, 2.5 and 13.1). AVX needs CR4.OSXSAVE and XCR0 instead, and EM is
 * nothing to it; what has VEX is #UD where there is no protected mode (vol. 2, 2.4). Which instructions that are is known
 * when they are decoded, and then they have this meaning instead of their own; so it costs nothing where they are on.
 */

import { Mode, State, Vector } from "../../cpu/layout.ts";
import type { Form } from "../../decode/form.ts";
import type { Instruction } from "../../decode/instruction.ts";
import { c32, i32 } from "../../wasm/ops.ts";
import type { Meaning } from "../context.ts";

/** What an instruction needs to be switched on. */
export type Unit = "sse" | "avx" | "vex" | "mmx" | "x87";

const EM = 4;
const TS = 8;
const OSFXSR = 0x200;

/** Need it without operands that show it. */
const MNEMONICS: Readonly<Record<string, Unit>> = { emms: "mmx", ldmxcsr: "sse", stmxcsr: "sse" };

/** The unit that an instruction needs and does not have under a mode. */
export function missingUnit({ form }: Instruction, mode: number): Unit | undefined {
  const isVex = form.map.startsWith("vex");
  if (isVex && (mode & (Mode.PROTECTED | Mode.VM86)) !== Mode.PROTECTED) return "vex";
  if ((mode & (Mode.NO_FPU | Mode.NO_SSE | Mode.NO_AVX)) === 0) return undefined;
  const unit = neededUnit(form);
  if (unit === undefined) return undefined;
  const missing = Mode.NO_FPU | (unit === "sse" ? Mode.NO_SSE : unit === "avx" ? Mode.NO_AVX : 0);
  return (mode & missing) !== 0 ? unit : undefined;
}

/** Whether a form is of AVX or its successors: on vector registers, with VEX. */
export function isAvx({ map, feature }: Form): boolean {
  return map.startsWith("vex") && !feature.startsWith("bmi");
}

function neededUnit(form: Form): Unit | undefined {
  if (form.map.startsWith("vex")) return isAvx(form) ? "avx" : undefined;
  if (form.operands.some(({ bank }) => bank === "xmm")) return "sse";
  if (form.operands.some(({ bank }) => bank === "mm")) return "mmx";
  if (form.feature === "fpu") return "x87";
  return MNEMONICS[form.mnemonic];
}

const raiseMissing =
  (unit: Unit, meaning: Meaning): Meaning =>
  (c) => {
    if (unit === "vex") {
      c.raiseIf(c32(1), Vector.UD);
      return;
    }
    if (unit === "avx") {
      c.raiseIf(i32.and(c.state32(State.mode), c32(Mode.NO_AVX)), Vector.UD);
      c.raiseIf(i32.and(c.state32(State.cr0), c32(TS)), Vector.NM);
      meaning(c);
      return;
    }
    const emulated = i32.and(c.state32(State.cr0), c32(EM));
    const unsupported = i32.eqz(i32.and(c.state32(State.cr4), c32(OSFXSR)));
    c.raiseIf(unit === "sse" ? i32.or(emulated, unsupported) : emulated, Vector.UD);
    c.raiseIf(c32(1), Vector.NM);
  };

/** A table of instructions that may be switched off. */
export function whereAvailable(table: Record<string, Meaning>): Record<string, Meaning> {
  const guarded = (meaning: Meaning): Meaning => {
    return (c) => (c.missing === undefined ? meaning(c) : raiseMissing(c.missing, meaning)(c));
  };
  return Object.fromEntries(Object.entries(table).map(([mnemonic, meaning]) => [mnemonic, guarded(meaning)]));
}
