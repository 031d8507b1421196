/** LODGE_SEED repeats a run. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Random } from "../../testing/random.ts";
import { MEMORY, scenario } from "../../testing/scenario.ts";
import { softProcessor } from "../../testing/soft-processor.ts";
import { State } from "../cpu/layout.ts";
import { Decoder } from "../decode/decoder.ts";
import { Instruction, Status } from "../decode/instruction.ts";
import { effectiveOffset, quickLinear } from "./operands.ts";
import { isCanonical, linear64 } from "./processor.ts";
import { setSregs } from "./sregs.ts";

const { LODGE_SEED } = process.env;
const seed = LODGE_SEED === undefined ? Date.now() % 1_000_000_000 : Number(LODGE_SEED);
const CASES = 20_000;

test(`addresses as numbers are those of bigints, or none (seed ${seed})`, () => {
  const random = new Random(seed);
  const { cpu } = softProcessor(MEMORY);
  setSregs(cpu, scenario(random, { mode: "long", tssType: 11, oddStacks: false }).state.sregs);
  const canonical = () => BigInt.asUintN(64, BigInt.asIntN(48, random.bits64()));
  const value = () => random.pick([() => BigInt(random.next()), canonical, canonical, () => random.bits64()])();
  const decoder = new Decoder();
  const instruction = new Instruction();
  const bytes = new Uint8Array(15);
  let quick = 0;
  for (let index = 0; index < CASES; index++) {
    for (let at = 0; at < bytes.length; at++) bytes[at] = random.below(256);
    // INVLPG with any address, at times with a segment or a narrow address.
    const prefixes = random.pick([[], [], [], [0x64], [0x65], [0x67], [0x43], [0x41]]);
    bytes.set([...prefixes, 0x0f, 0x01, (random.below(3) << 6) | 0x38 | random.below(8)]);
    if (decoder.decode(bytes, 0, bytes.length, 64, instruction) !== Status.OK) continue;
    for (let register = 0; register < 16; register++) cpu.state.setGpr(register, value());
    cpu.rip = value();
    for (const segment of [4, 5]) cpu.state.set64(State.segmentBase + segment * 8, canonical());
    const [operand] = instruction.operands;
    const address = quickLinear(cpu, instruction, operand);
    if (Number.isNaN(address)) continue;
    quick++;
    const base = cpu.state.get64(State.segmentBase + operand.segment * 8);
    const exact = BigInt.asUintN(64, base + effectiveOffset(cpu, instruction, operand));
    assert.ok(isCanonical(exact), `case ${index}: 0x${exact.toString(16)}`);
    assert.equal(address, linear64(exact), `case ${index}`);
  }
  assert.ok(quick > CASES / 10, `only ${quick} were quick`);
});
