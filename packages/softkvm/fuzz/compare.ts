/** What of two outcomes differs. */

import { Xsave } from "./case.ts";
import type { Outcome } from "./outcome.ts";

export const GPR_NAMES = ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"].concat(
  Array.from({ length: 8 }, (_, index) => `r${index + 8}`),
);

/** CF PF AF ZF SF DF OF NT AC ID: all that ring 3 can change. */
export const COMPARED_FLAGS = 0x244cd5;

const hex = (value: number | bigint) => `0x${value.toString(16)}`;

/** Lines of what differs; none when nothing does. `ignoredFlags` are undefined after the instruction. */
export function differences(real: Outcome, soft: Outcome, ignoredFlags: number): string[] {
  const lines: string[] = [];
  const note = (name: string, a: number | bigint | string, b: number | bigint | string) => {
    if (a === b) return;
    const show = (value: number | bigint | string) => (typeof value === "string" ? value : hex(value));
    lines.push(`${name}: ${show(a)} on the processor, ${show(b)} in software`);
  };
  note("ending", describeEnding(real), describeEnding(soft));
  for (let reg = 0; reg < 16; reg++) {
    if (real.gpr[reg * 2] !== soft.gpr[reg * 2] || real.gpr[reg * 2 + 1] !== soft.gpr[reg * 2 + 1]) {
      note(GPR_NAMES[reg]!, wide(real, reg), wide(soft, reg));
    }
  }
  const mask = COMPARED_FLAGS & ~ignoredFlags;
  if ((real.flags ^ soft.flags) & mask) note("flags", showFlags(real.flags & mask), showFlags(soft.flags & mask));
  if (!same(real.xsave, soft.xsave, Xsave.xmm, 256)) note("xmm", bytes(real, Xsave.xmm), bytes(soft, Xsave.xmm));
  if (!same(real.xsave, soft.xsave, Xsave.ymmHigh, 256))
    note("ymm", bytes(real, Xsave.ymmHigh), bytes(soft, Xsave.ymmHigh));
  for (const [name, at, size] of [
    ["mxcsr", Xsave.mxcsr, 4],
    ["x87 control, status, tags", Xsave.fcw, 5],
  ] as const) {
    if (!same(real.xsave, soft.xsave, at, size))
      note(name, hexBytes(real.xsave, at, size), hexBytes(soft.xsave, at, size));
  }
  for (let st = 0; st < 8; st++) {
    const at = Xsave.st + st * 16;
    if (!same(real.xsave, soft.xsave, at, 10))
      note(`st${st}`, hexBytes(real.xsave, at, 10), hexBytes(soft.xsave, at, 10));
  }
  return lines;
}

export function describeEnding(outcome: Outcome): string {
  if (outcome.ending === "exit") return `exit ${outcome.exit}`;
  if (outcome.ending === "unable") return `unable: ${outcome.reason}`;
  const { vector, error, rip, address } = outcome;
  return `vector ${vector} error ${hex(error)} at ${hex(rip)} address ${hex(address)}`;
}

function wide({ gpr }: Outcome, reg: number): bigint {
  return (BigInt(gpr[reg * 2 + 1]!) << 32n) | BigInt(gpr[reg * 2]!);
}

export function same(a: Uint8Array, b: Uint8Array, at: number, size: number): boolean {
  return Buffer.compare(a.subarray(at, at + size), b.subarray(at, at + size)) === 0;
}

/** The vector registers of an outcome, each that is not like the other one's. */
function bytes({ xsave }: Outcome, at: number): string {
  return Array.from({ length: 16 }, (_, reg) => `${reg}:${hexBytes(xsave, at + reg * 16, 16)}`).join(" ");
}

function hexBytes(area: Uint8Array, at: number, size: number): string {
  return Buffer.from(area.subarray(at, at + size)).toString("hex");
}

const FLAG_NAMES: readonly [number, string][] = [
  [0x1, "CF"],
  [0x4, "PF"],
  [0x10, "AF"],
  [0x40, "ZF"],
  [0x80, "SF"],
  [0x400, "DF"],
  [0x800, "OF"],
  [0x4000, "NT"],
  [0x40000, "AC"],
  [0x200000, "ID"],
];

export function showFlags(flags: number): string {
  return `[${FLAG_NAMES.filter(([bit]) => flags & bit)
    .map(([, name]) => name)
    .join(" ")}]`;
}
