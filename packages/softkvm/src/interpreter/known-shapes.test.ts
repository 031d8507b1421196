/** LODGE_SEED repeats a run. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Random } from "../../testing/random.ts";
import { Mode } from "../cpu/layout.ts";
import { Decoder } from "../decode/decoder.ts";
import { Instruction, Status } from "../decode/instruction.ts";
import { meaningOf } from "../semantics/table.ts";
import { numberOf } from "./known-shapes.ts";
import { shapeOf } from "./shape.ts";

const { LODGE_SEED } = process.env;
const seed = LODGE_SEED === undefined ? Date.now() % 1_000_000_000 : Number(LODGE_SEED);
const CASES = 200_000;
const LENGTH = 15;
const PREFIXES = [0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x26, 0x2e, 0x36, 0x64, 0x65, 0x48, 0x41, 0x4f, 0x40];
const ESCAPES = [[], [0x0f], [0x0f, 0x38], [0x0f, 0x3a], [0xc5], [0xc4, 0xe1], [0xc4, 0xe2], [0xc4, 0xe3]];

test(`instructions of one form with one number have one shape (seed ${seed})`, () => {
  const random = new Random(seed);
  const decoder = new Decoder();
  const instruction = new Instruction();
  const keys = new Map<string, string>();
  const bytes = new Uint8Array(LENGTH);
  const modes = [
    Mode.FLAT | Mode.LONG | Mode.PROTECTED | 2,
    Mode.FLAT | Mode.PROTECTED | Mode.STACK_32 | 1,
    ...[Mode.PROTECTED | 1, 0, Mode.VM86 | Mode.PROTECTED, Mode.NO_SSE | Mode.NO_FPU | Mode.NO_AVX | 2],
  ];
  let met = 0;
  for (let index = 0; index < CASES; index++) {
    for (let at = 0; at < LENGTH; at++) bytes[at] = random.below(256);
    const prefixes = Array.from({ length: random.below(3) }, () => random.pick(PREFIXES));
    bytes.set([...prefixes, ...random.pick(ESCAPES)]);
    const mode = random.pick(modes);
    const bits = ([16, 32, 64] as const)[mode & Mode.BITS]!;
    if (decoder.decode(bytes, 0, LENGTH, bits, instruction) !== Status.OK) continue;
    const within = numberOf(instruction, mode);
    assert.ok(Number.isSafeInteger(within));
    const number = `${instruction.form.id} ${within}`;
    const { mnemonic, condition } = instruction.form;
    const shape = meaningOf(mnemonic, condition) && shapeOf(instruction, mode);
    const key = `${shape?.key}`;
    if (keys.has(number)) met++;
    assert.equal(keys.get(number) ?? key, key, `${Buffer.from(bytes).toString("hex")}, mode ${mode}`);
    keys.set(number, key);
  }
  assert.ok(met > CASES / 20, `only ${met} were met again`);
});
