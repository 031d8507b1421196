/** What is written of a region depends on nothing but its order: instructions and shapes are used again. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Mode } from "../cpu/layout.ts";
import { CODE_LIMITS } from "../interpreter/limits.ts";
import { compileOrder } from "./compile-order.ts";
import { FIELDS } from "./order.ts";

const BASE = 0x100000;
const FLAT_LONG = 2 | Mode.FLAT | Mode.PROTECTED | Mode.LONG;

/** Of one block, in which operands of each kind come at each place. */
const REGISTERS = [
  ...[0x00, 0xe1], // add %ah, %cl
  ...[0x48, 0x0f, 0xa4, 0xd8, 0x07], // shld $7, %rbx, %rax
  ...[0x48, 0x8b, 0x84, 0xcb, 0x78, 0x56, 0x34, 0x12], // mov 0x12345678(%rbx,%rcx,8), %rax
  ...[0x66, 0x0f, 0x70, 0xc1, 0x1b], // pshufd $0x1b, %xmm1, %xmm0
  ...[0xd8, 0xc1], // fadd %st(1)
  ...[0x49, 0x75, 0xe5], // rex.wb; jne
];
const MEMORY = [
  ...[0x64, 0xfe, 0x44, 0x24, 0x80], // incb %fs:-0x80(%rsp)
  ...[0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 0x88], // movabs $0x8807060504030201, %rax
  ...[0x48, 0x03, 0x05, 0x10, 0x00, 0x00, 0x00], // add 0x10(%rip), %rax
  ...[0xc4, 0xe2, 0xed, 0x90, 0x04, 0x8b], // vpgatherdq %ymm2, (%rbx,%xmm1,4), %ymm0
  ...[0xf0, 0x48, 0x0f, 0xb1, 0x0b], // lock cmpxchg %rcx, (%rbx)
  ...[0xf3, 0xa4], // rep movsb
  ...[0x75, 0xdb], // jne
];

function written(code: readonly number[], mode = FLAT_LONG): string {
  const members = new Float64Array(FIELDS);
  // At 0x2000, with records at 0x8000, and a jump back to itself.
  members.set([0x2000, code.length, mode, 0x8000, 6, 0x2000, 0x2000 + code.length, Number.NaN, 0]);
  const seeds = Int32Array.from([0, 0]);
  const compiled = compileOrder({
    base: BASE,
    slot: 200,
    features: undefined,
    members,
    seeds,
    code: Uint8Array.from(code),
  });
  assert.ok(compiled !== undefined);
  return Buffer.from(compiled.bytes).toString("hex");
}

test("a region is the same whatever was compiled before it", () => {
  const [registers, memory] = [written(REGISTERS), written(MEMORY)];
  assert.equal(written(REGISTERS), registers);
  assert.equal(written(REGISTERS, FLAT_LONG | Mode.USER) === registers, false);
  assert.equal(written(MEMORY), memory);
  assert.equal(written([...MEMORY.slice(0, -2), ...REGISTERS]).length > memory.length, true);
  assert.equal(written(REGISTERS), registers);
});

test("shapes that are forgotten are described once more", () => {
  const [registers, memory] = [written(REGISTERS), written(MEMORY)];
  const usual = CODE_LIMITS.shapes;
  CODE_LIMITS.shapes = 2;
  try {
    assert.equal(written(MEMORY, FLAT_LONG | Mode.USER) === memory, false);
    assert.equal(written(REGISTERS), registers);
    assert.equal(written(MEMORY), memory);
  } finally {
    CODE_LIMITS.shapes = usual;
  }
});

test("a block of more instructions than are used again is compiled", () => {
  const nops = (count: number) => [...Array.from({ length: count }, () => 0x90), 0xeb, 0xfe];
  assert.equal(written(nops(2000)), written(nops(2000)));
});
