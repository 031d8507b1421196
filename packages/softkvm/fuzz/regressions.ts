/**
 * Instructions that the fuzzer once found to differ. Each is run in every test from this state; what is not given is 0.
 * For a mismatch, `npm run fuzz:cpu` prints a whole line that goes to {@link LINES} instead.
 */

import { exitCode, type FuzzCase, initialXsave, Xsave } from "./case.ts";
import { GPR_NAMES } from "./compare.ts";
import { FIRST_WRITABLE_SLOT, linearOf, SlotPages } from "./layout.ts";

interface Regression {
  readonly why: string;
  /** The instruction in hexadecimal. */
  readonly code: string;
  /** General registers by their names. */
  readonly registers?: Readonly<Record<string, bigint>>;
  readonly flags?: number;
  /** Words of 32 bits of ymm registers by their numbers, from the lowest on. */
  readonly vectors?: Readonly<Record<number, readonly number[]>>;
  readonly mxcsr?: number;
  /** The code may be written to. */
  readonly writable?: boolean;
  /** 64 if not given. */
  readonly bits?: 32 | 64;
}

const AT = 0x400;
/** Slot 0's data, its second page, and what follows that one. */
const DATA = BigInt(linearOf(0, SlotPages.data.linear));
const READ_ONLY = DATA + 0x2000n;
const UNMAPPED = DATA + 0x3000n;
const NOT_CANONICAL = 0x1234_5678_9abc_def0n;
const CF_OF = 0x801;

export const REGRESSIONS: readonly Regression[] = [
  { why: "CDQE was CBW", code: "4898", registers: { rax: 0x8000_0000n } },
  { why: "CDQ was CWD", code: "99", registers: { rax: 0x8000_0000n } },
  { why: "CMPXCHG that fails keeps the destination's upper half", code: "0fb1d9", registers: { rcx: -1n, rax: 1n } },
  {
    why: "XADD's address has the register that it changes",
    code: "480fc11b",
    registers: { rbx: DATA },
  },
  { why: "a jump to an address that is not canonical", code: "ffe0", registers: { rax: NOT_CANONICAL } },
  {
    why: "a call there has pushed already",
    code: "ffd0",
    registers: { rax: NOT_CANONICAL, rsp: DATA + 0x800n },
  },
  {
    why: "REPNE SCAS that faults has the flags from before",
    code: "f2ae",
    registers: { rdi: UNMAPPED - 3n, rcx: 9n, rax: 0x55n },
    flags: CF_OF,
  },
  {
    why: "REPE CMPS that faults has the flags from before",
    code: "f3a6",
    registers: { rdi: UNMAPPED - 3n, rsi: UNMAPPED - 3n, rcx: 9n },
    flags: CF_OF,
  },
  {
    why: "a read-only page refuses CMPXCHG8B before the one behind it is missed",
    code: "f00fc70e",
    registers: { rsi: UNMAPPED - 3n },
  },
  {
    why: "which a kernel that emulates 32-bit code does the other way round",
    code: "f00fc70e",
    registers: { rsi: UNMAPPED - 3n },
    bits: 32,
  },
  { why: "CMPS reads its second operand first", code: "a6", registers: { rdi: UNMAPPED, rsi: UNMAPPED + 8n } },
  {
    why: "REP MOVS with 32-bit addresses clears the upper halves",
    code: "67f3a4",
    registers: { rdi: 1n << 40n, rsi: 1n << 41n, rcx: 1n << 42n },
  },
  {
    why: "REP LODS with 32-bit addresses clears that of RCX",
    code: "67f3ac",
    registers: { rsi: 1n << 41n, rcx: (1n << 42n) + 5n },
  },
  {
    why: "a bit string's address with 32 bits wraps",
    code: "674f0fb313",
    registers: { r11: 0x10n, r10: -0x800n },
  },
  { why: "BSF's parity is that of the bit number", code: "0fbcc1", registers: { rcx: 0x10n } },
  { why: "TZCNT clears PF", code: "f30fbcc1", registers: { rcx: 8n } },
  { why: "IMUL clears ZF", code: "0fafc1", registers: { rax: 0n } },
  { why: "OF of SHL goes by the operand", code: "c1e018", registers: { rax: 0x8000_0000n } },
  { why: "OF of SHR goes by the operand", code: "c0e81b", registers: { rax: 0xd0n } },
  { why: "OF of ROL by CL goes by the operand", code: "d3c0", registers: { rax: 0x4000_0000n, rcx: 5n } },
  { why: "ROR of a register by an immediate keeps OF", code: "c1c808", registers: { rax: 1n }, flags: CF_OF },
  { why: "RCR by a whole turn keeps OF", code: "c0d812", registers: { rax: 0x80n }, flags: 2 },
  { why: "OF of SHRD goes by both operands", code: "0facc808", registers: { rax: 0x8000_0000n, rcx: 1n } },
  {
    why: "a store that reaches into a read-only page changes nothing",
    code: "488901",
    registers: { rcx: READ_ONLY - 4n },
  },
  {
    why: "MOV changes the immediate of the ADD right behind it, in a page that nothing has been loaded from",
    code: "c60505000000744881c087ad5034",
    writable: true,
  },
  { why: "ANDN clears PF", code: "c4e268f2ca" },
  { why: "BEXTR clears SF", code: "c4e2e8f7c1", registers: { rcx: -1n, rdx: 0x4000n } },
  {
    why: "within an operand of VMASKMOVPD a 32-bit address does not wrap",
    code: "67c422292d87ffffffff",
    vectors: { 10: [0, 0, -1, -1] },
  },
  {
    why: "a masked store that faults in its second page tells its last byte",
    code: "c422212e0e",
    registers: { rsi: READ_ONLY - 13n },
    vectors: { 11: [0, 0, 0, -1] },
  },
  {
    why: "so does one with a mask of ones",
    code: "c422212e0e",
    registers: { rsi: READ_ONLY - 13n },
    vectors: { 11: [-1, -1, -1, -1] },
  },
  {
    why: "a gather's mask is ones and zeros after the first fault",
    code: "c40251923402",
    registers: { r10: UNMAPPED },
    vectors: { 5: [-2, 5, 1 << 31, 7, -1, -1, -1, -1] },
  },
  {
    why: "a gather of singles by four quadwords leaves the upper half where it faults",
    code: "c482459134d7",
    registers: { r15: UNMAPPED - 8n },
    vectors: { 6: [1, 2, 3, 4, 5, 6, 7, 8], 7: [-1, -1, -1, -1], 10: [0, 0, 1, 0, 2, 0, 0, 0] },
  },
  {
    why: "to VCVTPS2PH a denormal number is inexact, also with underflow unmasked",
    code: "c4e3791dca00",
    vectors: { 1: [0x2000] },
    mxcsr: 0x1780,
  },
  {
    why: "but a small normal one is not",
    code: "c4e3791dca00",
    vectors: { 1: [0x30000000] },
    mxcsr: 0x1780,
  },
  {
    why: "FBSTP has written eight bytes where the two behind them fault",
    code: "df31",
    registers: { rcx: READ_ONLY - 8n },
  },
  { why: "so has FSTP, also across the pages", code: "db39", registers: { rcx: READ_ONLY - 9n } },
  { why: "but none where the eight fault", code: "db39", registers: { rcx: READ_ONLY - 7n } },
];

/** What `npm run fuzz:cpu` printed behind "repro:". */
export const LINES: readonly string[] = [
  // PMINUB on MMX registers gave a local of its region back twice: the branch's condition shared it with another value.
  '{"slot":37,"bits":64,"code":[[2048,"c4012563cfc48125e21d226200007313c4e1f8291d775a0000c4837d02257d65000031c5795105554d0000730967c58557053a630000c58d67258255000066490fef1df95100003ec4217ae6cf67f266430f58e867660f38f13d68530000660fe6e941be05000000660f3821d7c51f592d31660000c4617d29f8f2470f58159d51000066def0c422bd9ef7480fda05ef500000c5625d2dc25b000041ffce0f85c4ffffff66490f3a601d815100000067264cd9d066410f3a14db564cfd440f38cd2d3a4e0000"],[2246,"e935cdffff"]],"gpr":"0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0","flags":2,"fs":"0","gs":"0","vectors":"fwMAAAAAAAAAAAAAAAAAAAAAAAAAAAAAgB8AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAHAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==","data":[0]}',
];

export function regressionCase(regression: Regression): FuzzCase {
  const { code, registers = {}, flags = 2, vectors = {}, mxcsr = 0x1f80, writable = false, bits = 64 } = regression;
  const xsave = initialXsave();
  const area = new DataView(xsave.buffer);
  area.setUint32(Xsave.mxcsr, mxcsr, true);
  for (const [register, words] of Object.entries(vectors)) {
    for (const [index, word] of words.entries()) {
      const half = index < 4 ? Xsave.xmm : Xsave.ymmHigh;
      area.setInt32(half + Number(register) * 16 + (index % 4) * 4, word, true);
    }
  }
  const slot = writable ? FIRST_WRITABLE_SLOT : 0;
  const bytes = Uint8Array.from(Buffer.from(code, "hex"));
  return {
    slot,
    bits,
    code: [
      { at: AT, bytes },
      { at: AT + bytes.length, bytes: exitCode(slot, bits, 0, AT + bytes.length) },
    ],
    gpr: GPR_NAMES.map((name) => BigInt.asUintN(64, registers[name] ?? 0n)),
    flags,
    fsBase: 0n,
    gsBase: 0n,
    xsave,
    data: { from: 0, words: [] },
  };
}
