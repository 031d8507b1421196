/** What the generator makes is what it meant to: bytes that were aimed at memory are one instruction that is compared. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Decoder } from "../src/decode/decoder.ts";
import { Instruction, Status } from "../src/decode/instruction.ts";
import { coverage, Generator, knows } from "./generate.ts";

test("a case's code is one instruction that is compared, or none", () => {
  const generator = new Generator(2026112712, coverage());
  const decoder = new Decoder();
  const instruction = new Instruction();
  const wrong: string[] = [];
  // The last of them was once a MOV behind what DEC is in 32-bit code, whose opcode the address was written over.
  for (const index of [...Array(5000).keys(), 142_560]) {
    const { bytes } = generator.make(index, index % 64, 64).code[0]!;
    const padded = new Uint8Array(32);
    padded.set(bytes);
    const status = decoder.decode(padded, 0, padded.length, 64, instruction);
    if (status === Status.UNDEFINED) assert.ok(bytes.subarray(0, 5).includes(0xf0), `${index}: LOCK alone makes #UD`);
    if (status === Status.OK && !(instruction.length === bytes.length && knows(instruction.form))) {
      wrong.push(`${index}: ${Buffer.from(bytes).toString("hex")} ${instruction.form.mnemonic}`);
    }
  }
  assert.deepEqual(wrong, []);
});
