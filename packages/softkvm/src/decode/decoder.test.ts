import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { Decoder } from "./decoder.ts";
import { format } from "./format.ts";
import { type CodeSize, Instruction, SegmentRegister, Status } from "./instruction.ts";
import { FEATURES, FORMS } from "./opcode-map.ts";
import { encodings, randomSource } from "./testing/encodings.ts";

const SEED = Number(process.env.LODGE_SEED ?? Date.now() % 1_000_000);
const decoder = new Decoder();

function fromHex(hex: string): Uint8Array {
  return Uint8Array.from(hex.match(/[0-9a-f]{2}/g) ?? [], (byte) => Number.parseInt(byte, 16));
}

function decode(bits: CodeSize, hex: string, by = decoder): Instruction {
  const bytes = fromHex(hex);
  const instruction = new Instruction();
  assert.equal(by.decode(bytes, 0, bytes.length, bits, instruction), Status.OK, hex);
  assert.equal(instruction.length, bytes.length, hex);
  return instruction;
}

function statusOf(bits: CodeSize, hex: string, by = decoder): Status {
  const bytes = fromHex(hex);
  return by.decode(bytes, 0, bytes.length, bits, new Instruction());
}

suite("prefixes", () => {
  test("REX counts only right before the opcode", () => {
    assert.equal(format(decode(64, "4801d8")), "add rax,rbx");
    assert.equal(format(decode(64, "486601d8")), "add ax,bx");
    assert.equal(format(decode(64, "664801d8")), "add rax,rbx");
    assert.equal(format(decode(64, "404901d8")), "add r8,rbx");
  });
  test("of F2 and F3 the last holds, and both go before 66", () => {
    assert.equal(format(decode(64, "f2f30f58c1")), "addss xmm0,xmm1");
    assert.equal(format(decode(64, "f3f20f58c1")), "addsd xmm0,xmm1");
    assert.equal(format(decode(64, "66f20f58c1")), "addsd xmm0,xmm1");
    assert.equal(format(decode(64, "f3660f58c1")), "addss xmm0,xmm1");
    assert.equal(decode(64, "f3f2a6").rep, 0xf2);
    assert.equal(decode(64, "f2f3a6").rep, 0xf3);
  });
  test("66 is an operand size where another prefix selects, or none does", () => {
    assert.equal(format(decode(64, "66f30fb8c1")), "popcnt ax,cx");
    assert.equal(format(decode(64, "66f20f38f1c1")), "crc32 eax,cx");
    assert.equal(format(decode(64, "660f38f001")), "movbe ax,WORD PTR [rcx]");
  });
  test("the last segment counts; in 64-bit mode only FS and GS are ones", () => {
    const segment = (bits: CodeSize, hex: string) => decode(bits, hex).operands[1].segment;
    assert.equal(segment(32, "26648b00"), SegmentRegister.FS);
    assert.equal(segment(32, "64268b00"), SegmentRegister.ES);
    assert.equal(segment(64, "64268b00"), SegmentRegister.FS);
    assert.equal(segment(64, "268b00"), SegmentRegister.DS);
    assert.equal(segment(64, "648b4500"), SegmentRegister.FS);
  });
  test("the stack's registers as base mean the stack's segment", () => {
    const segment = (bits: CodeSize, hex: string) => decode(bits, hex).operands[1].segment;
    assert.equal(segment(64, "8b4500"), SegmentRegister.SS);
    assert.equal(segment(64, "8b0424"), SegmentRegister.SS);
    assert.equal(segment(64, "418b4500"), SegmentRegister.DS);
    assert.equal(segment(64, "8b042500000000"), SegmentRegister.DS);
    assert.equal(segment(64, "8b0428"), SegmentRegister.DS);
    assert.equal(segment(16, "8b02"), SegmentRegister.SS);
    assert.equal(segment(16, "8b07"), SegmentRegister.DS);
    assert.equal(segment(16, "8b060000"), SegmentRegister.DS);
  });
  test("LOCK wants a memory destination of an instruction that can be atomic", () => {
    assert.equal(decode(64, "f00108").lock, true);
    assert.equal(decode(64, "f00fc70e").lock, true);
    for (const hex of ["f001c8", "f00308", "f08908", "f03908", "f090", "f00fa308", "f00fba2000", "f0c4e178580000"]) {
      assert.equal(statusOf(64, hex), Status.UNDEFINED, hex);
    }
  });
  test("string instructions override the source's segment only", () => {
    const { operands, rep, operandSize, addressSize } = decode(64, "6765f348a5");
    const [to, from] = operands;
    assert.deepEqual([to.base, to.segment], [7, SegmentRegister.ES]);
    assert.deepEqual([from.base, from.segment], [6, SegmentRegister.GS]);
    assert.deepEqual([rep, operandSize, addressSize], [0xf3, 64, 32]);
  });
});

suite("sizes", () => {
  const sizes: [CodeSize, string, string, number][] = [
    [64, "50", "push", 64],
    [64, "6650", "push", 16],
    [64, "664850", "push", 64],
    [64, "9c", "pushf", 64],
    [64, "669c", "pushf", 16],
    [64, "c9", "leave", 64],
    [64, "cf", "iret", 32],
    [64, "48cf", "iret", 64],
    [64, "cb", "retf", 32],
    [64, "66c3", "ret", 64],
    [64, "66e800000000", "call", 64],
    [64, "66ff20", "jmp", 64],
    [64, "0f07", "sysret", 32],
    [64, "480f07", "sysret", 64],
    [64, "0fa0", "push.sreg", 64],
    [32, "50", "push", 32],
    [32, "66cf", "iret", 16],
    [32, "66e80000", "call", 16],
    [16, "cf", "iret", 16],
    [16, "6660", "pusha", 32],
    [16, "66c3", "ret", 32],
  ];
  for (const [bits, hex, mnemonic, operandSize] of sizes) {
    test(`${hex} in ${bits}-bit code is ${mnemonic} of ${operandSize} bits`, () => {
      const instruction = decode(bits, hex);
      assert.deepEqual([instruction.form.mnemonic, instruction.operandSize], [mnemonic, operandSize]);
    });
  }

  test("immediates are extended as the instruction wants", () => {
    const immediate = (bits: CodeSize, hex: string, index: 0 | 1 = 1) => {
      const operand = decode(bits, hex).operands[index];
      return [operand.size, operand.value64];
    };
    assert.deepEqual(immediate(64, "4883c0ff"), [8, -1n]);
    assert.deepEqual(immediate(64, "4881c000000080"), [8, -0x80000000n]);
    assert.deepEqual(immediate(64, "48b8efcdab8967452301"), [8, 0x0123456789abcdefn]);
    assert.deepEqual(immediate(64, "04ff"), [1, 255n]);
    assert.deepEqual(immediate(64, "6aff", 0), [8, -1n]);
    assert.deepEqual(immediate(16, "c20080", 0), [2, 0x8000n]);
    assert.deepEqual(immediate(64, "d1e0"), [1, 1n]);
  });
  test("absolute addresses have address size", () => {
    assert.equal(decode(64, "a1f0debc9a78563412").operands[1].disp64, 0x123456789abcdef0n);
    assert.equal(decode(64, "67a1f0debc9a").operands[1].disp64, 0x9abcdef0n);
    assert.equal(decode(32, "67a1f0de").operands[1].disp64, 0xdef0n);
  });
  test("far pointers", () => {
    const { operands } = decode(32, "9a78563412cdab");
    assert.deepEqual([operands[0].kind, operands[0].value, operands[0].selector], ["far", 0x12345678, 0xabcd]);
    assert.equal(decode(16, "eaffff00f0").operands[0].value, 0xffff);
    assert.equal(decode(64, "48ff28").operands[0].size, 10);
  });
});

suite("lengths", () => {
  const samples: [CodeSize, string][] = [
    [64, "6448c78488efcdab8901000080"],
    [64, "f0664c0fb18c2400010000"],
    [64, "c463714ac0a0"],
    [64, "660f3a0fc108"],
    [64, "48b80102030405060708"],
    [32, "9a78563412cdab"],
    [32, "c8010203"],
    [16, "2e66678b848800010000"],
    [64, "0f0102"],
    // Undefined, but of this length.
    [64, "c6480000"],
    [64, "0f71c800"],
  ];
  for (const [bits, hex] of samples) {
    test(`${hex} wants every byte of it`, () => {
      const bytes = fromHex(hex);
      const instruction = new Instruction();
      for (let end = 0; end < bytes.length; end++) {
        assert.equal(decoder.decode(bytes, 0, end, bits, instruction), Status.MORE, `${end} bytes`);
      }
      assert.notEqual(decoder.decode(bytes, 0, bytes.length, bits, instruction), Status.MORE);
      assert.equal(instruction.length, bytes.length);
    });
  }

  test("15 bytes are an instruction, 16 are a fault, as soon as 15 are there", () => {
    const nops = `${"66".repeat(14)}90`;
    assert.equal(decode(64, nops).length, 15);
    assert.equal(statusOf(64, `66${nops}`), Status.TOO_LONG);
    assert.equal(statusOf(64, "66".repeat(15)), Status.TOO_LONG);
    assert.equal(statusOf(64, "66".repeat(14)), Status.MORE);
    const long = `${"2e".repeat(9)}c7000000`;
    assert.equal(decode(64, `${"2e".repeat(9)}c70000000000`).length, 15);
    assert.equal(statusOf(64, `2e${long}`), Status.MORE);
    assert.equal(statusOf(64, `2e${long}00`), Status.TOO_LONG);
  });

  test("bytes past the end do not matter, and random ones do not throw", (t) => {
    t.diagnostic(`LODGE_SEED=${SEED}`);
    const random = randomSource(SEED);
    const [some, others] = [new Instruction(), new Instruction()];
    for (const bits of [16, 32, 64] as const) {
      for (const bytes of encodings(SEED, bits, 8)) {
        const end = random(16);
        const changed = bytes.map((byte, i) => (i < end ? byte : random(256)));
        const status = decoder.decode(bytes, 0, end, bits, some);
        assert.equal(decoder.decode(changed, 0, end, bits, others), status);
        if (status !== Status.OK) continue;
        assert.ok(some.length <= end);
        assert.equal(format(some), format(others));
      }
    }
  });
});

suite("processors", () => {
  const without = (...features: string[]) => new Decoder(FEATURES.difference(new Set(features)));

  test("what an older one lacks is #UD or means something older", () => {
    assert.equal(decode(64, "f30fbdc1").form.mnemonic, "lzcnt");
    assert.equal(decode(64, "f30fbdc1", without("abm")).form.mnemonic, "bsr");
    assert.equal(decode(64, "f30fbcc1", without("bmi1")).form.mnemonic, "bsf");
    assert.equal(statusOf(64, "f30fb8c1", without("popcnt")), Status.UNDEFINED);
  });
  test("256-bit integers came after 256-bit floats", () => {
    assert.equal(statusOf(64, "c5f5fec2", without("avx2")), Status.UNDEFINED);
    assert.equal(statusOf(64, "c5f1fec2", without("avx2")), Status.OK);
  });
});

test("every form can be reached, and only in its modes", (t) => {
  t.diagnostic(`LODGE_SEED=${SEED}`);
  const instruction = new Instruction();
  const reached = new Set<number>();
  for (const bits of [32, 64] as const) {
    for (const bytes of encodings(SEED, bits, 20)) {
      if (decoder.decode(bytes, 0, bytes.length, bits, instruction) !== Status.OK) continue;
      const { form } = instruction;
      reached.add(form.id);
      assert.equal(FORMS[form.id], form);
      assert.equal(instruction.operandCount, form.operands.length);
      assert.notEqual(form.modes, bits === 64 ? "legacy" : "long");
    }
  }
  const missed = FORMS.filter((form) => !reached.has(form.id)).map((form) => `${form.opcode} ${form.mnemonic}`);
  assert.deepEqual(missed, []);
});
