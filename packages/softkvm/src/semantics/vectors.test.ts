/**
 * Vector instructions against the processor that runs the test: registers, flags, MXCSR, x87 state, memory and exceptions,
 * bit for bit. LODGE_SEED repeats a run, LODGE_ROUNDS says how many cases each encoding gets.
 */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { notIntel } from "../../testing/vendor.ts";
import { Mode, Vector } from "../cpu/layout.ts";
import type { Form } from "../decode/form.ts";
import { randomSource } from "../decode/testing/encodings.ts";
import { isAvx } from "./sse/availability.ts";
import { meaningOf } from "./table.ts";
import { differences } from "./testing/compare.ts";
import { Interpreted } from "./testing/interpreted.ts";
import { noProcessor, type Outcome, runNatively, type Trial } from "./testing/native.ts";
import { trialOf, VECTOR_FORMS } from "./testing/trials.ts";

const SEED = Number(process.env.LODGE_SEED ?? Date.now() % 1_000_000);
const ROUNDS = Number(process.env.LODGE_ROUNDS ?? (process.env.LODGE_LONG ? 1000 : 25));

const SEQUENCES = process.env.LODGE_LONG ? 20_000 : 1000;
/** Arithmetic, some of what looks at its results, and what moves them. */
const FLOATS = /^((add|sub|mul|div|sqrt|max|u?comi|unpckl|xor|mova)[ps][sd]|movs[sd]|cvt(t?sd2si|si2sd)|ldmxcsr)$/;

const cpuinfo = process.platform === "linux" ? readFileSync("/proc/cpuinfo", "utf8") : "";
const features = new Set(/^flags\s*:(.*)$/m.exec(cpuinfo)?.[1]?.trim().split(/\s+/));
const isIntel = cpuinfo.includes("GenuineIntel");

/** Why a form cannot be compared on this machine. */
function skipped({ feature, mnemonic }: Form): string | undefined {
  if (!features.has(feature)) return `this processor has no ${feature}`;
  if (/^v?r(cp|sqrt)[ps]s$/.test(mnemonic) && !isIntel) return "only Intel's tables of approximations are known";
  return undefined;
}

interface Case {
  form: Form;
  trial: Trial;
}

function cases(t: { diagnostic(text: string): void }, rounds: number): Case[] {
  const reasons = new Set<string>();
  const list: Case[] = [];
  for (const form of VECTOR_FORMS) {
    const reason = skipped(form);
    if (reason !== undefined) reasons.add(`${form.mnemonic}: ${reason}`);
    else for (let round = 0; round < rounds; round++) list.push({ form, trial: trialOf(form, SEED * 4096 + round) });
  }
  t.diagnostic(`LODGE_SEED=${SEED}, ${list.length} cases`);
  for (const reason of reasons) t.diagnostic(`skipped ${reason}`);
  return list;
}

function compare(list: readonly Case[], run: (trial: Trial) => Outcome | undefined): void {
  const expected = runNatively(list.map(({ trial }) => trial));
  const mismatches: string[] = [];
  for (const [index, { form, trial }] of list.entries()) {
    const found = run(trial);
    const problems = found === undefined ? ["has no meaning"] : differences(found, expected[index]!);
    if (problems.length === 0) continue;
    const code = Buffer.from(trial.code).toString("hex");
    mismatches.push(`${form.mnemonic} (${form.opcode}), ${code}: ${problems.join("; ")}`);
  }
  assert.deepEqual(mismatches.slice(0, 20), [], `${mismatches.length} differ`);
}

test("every vector instruction has a meaning", () => {
  const missing = VECTOR_FORMS.filter(({ mnemonic, condition }) => meaningOf(mnemonic, condition) === undefined);
  assert.deepEqual([...new Set(missing.map(({ mnemonic }) => mnemonic))], []);
});

// AMD's processors have other approximations, and take addresses that are not aligned in SHA's instructions.
const skip = noProcessor() || notIntel;

test("vector instructions do in the interpreter what they do on the processor", { skip }, (t) => {
  const machine = new Interpreted();
  compare(cases(t, ROUNDS), (trial) => machine.run(trial));
});

test("vector instructions do the same when compiled", { skip }, (t) => {
  const machine = new Interpreted();
  compare(cases(t, Math.ceil(ROUNDS / 8)), (trial) => machine.run(trial, "compiled"));
});

const DOUBLES = /^((add|sub|mul|div)[ps]d|movapd|ucomisd)$/;

/** Nothing has happened but that a result was inexact, and nothing is unmasked. */
const USUAL_MXCSR = 0x1fa0;

/** Exponents of doubles whose products and differences are normal, or denormal without an operand that is. */
const EXPONENTS = [0x3ff, 0x200, 0x1ff, 0x1f0, 0x002];

/** Doubles in the first two registers. */
function setDoubles(fx: Uint8Array, random: (below: number) => number): void {
  const view = new DataView(fx.buffer, fx.byteOffset);
  for (let at = 160; at < 192; at += 8) {
    view.setUint32(at, random(2 ** 32), true);
    view.setUint32(at + 4, (random(2) << 31) | (EXPONENTS[random(EXPONENTS.length)]! << 20) | random(2 ** 20), true);
  }
}

/** Two registers only, where the code is that of registers, so that instructions use each other's results. */
function crowded(code: Uint8Array): number[] {
  const last = code.at(-1)!;
  return last >= 0xc0 ? [...code.subarray(0, -1), last & 0xc9] : [...code];
}

/** What compiled code learns from one instruction about the operands of the next ones. */
test("float instructions in a row do when compiled what each does in the interpreter", (t) => {
  const floats = VECTOR_FORMS.filter(({ mnemonic }) => FLOATS.test(mnemonic));
  const doubles = floats.filter(({ mnemonic }) => DOUBLES.test(mnemonic));
  const machine = new Interpreted();
  const random = randomSource(SEED);
  t.diagnostic(`LODGE_SEED=${SEED}`);
  for (let count = 0; count < SEQUENCES; count++) {
    const usual = random(2) === 1;
    const list = usual ? doubles : floats;
    const length = 2 + random(7);
    const trials = Array.from({ length }, () => trialOf(list[random(list.length)]!, random(2 ** 32)));
    const code = Uint8Array.from(trials.flatMap((each) => crowded(each.code)));
    const trial = { ...trials[0]!, code };
    if (usual) {
      new DataView(trial.fx.buffer, trial.fx.byteOffset).setUint32(24, USUAL_MXCSR, true);
      setDoubles(trial.fx, random);
    }
    const found = differences(machine.runSequence(trial, "compiled"), machine.runSequence(trial, "interpreted"));
    assert.deepEqual(found, [], `sequence ${count}: ${Buffer.from(code).toString("hex")}`);
  }
});

test("control registers switch vector instructions off", () => {
  const machine = new Interpreted();
  const EM = 4;
  const TS = 8;
  const settings = [
    { mode: Mode.NO_FPU, cr0: EM, cr4: 0x40600, sse: Vector.UD, mmx: Vector.UD },
    { mode: Mode.NO_FPU, cr0: TS, cr4: 0x40600, sse: Vector.NM, mmx: Vector.NM, avx: Vector.NM },
    { mode: Mode.NO_SSE, cr0: 0, cr4: 0x40000, sse: Vector.UD },
    { mode: Mode.NO_SSE | Mode.NO_FPU, cr0: TS, cr4: 0x40000, sse: Vector.UD, mmx: Vector.NM, avx: Vector.NM },
    { mode: Mode.NO_AVX, cr0: 0, cr4: 0x600, avx: Vector.UD },
    { mode: Mode.NO_AVX | Mode.NO_FPU, cr0: TS, cr4: 0x600, sse: Vector.NM, mmx: Vector.NM, avx: Vector.UD },
    { mode: Mode.VM86, cr0: 0, cr4: 0x40600, avx: Vector.UD },
  ];
  for (const { sse, mmx, avx, ...setting } of settings) {
    machine.select(setting);
    for (const form of VECTOR_FORMS) {
      const usesXmm = form.operands.some(({ bank }) => bank === "xmm") || /mxcsr$/.test(form.mnemonic);
      const usesMm = form.operands.some(({ bank }) => bank === "mm") || form.mnemonic === "emms";
      const expected = isAvx(form) ? avx : usesXmm ? sse : usesMm ? mmx : undefined;
      if (expected === undefined) continue;
      const found = machine.run(trialOf(form, SEED));
      assert.equal(found?.vector, expected, `${form.mnemonic} with CR0 ${setting.cr0}, CR4 ${setting.cr4}`);
    }
  }
});
