/** Mismatches as text: what ran, from which state, what differs, and a line for the regression list. */

import type { Campaign, Mismatch } from "./campaign.ts";
import type { FuzzCase } from "./case.ts";
import { GPR_NAMES, showFlags } from "./compare.ts";

const hex = (value: bigint) => `0x${value.toString(16)}`;

export function showMismatch(mismatch: Mismatch, campaign: Campaign): string {
  const { fuzzCase, lines } = mismatch;
  const bytes = Buffer.from(fuzzCase.code[0]!.bytes).toString("hex");
  const registers = fuzzCase.gpr.map((value, reg) => `${GPR_NAMES[reg]}=${hex(value)}`).join(" ");
  return [
    `--- ${mismatch.subject}, ${fuzzCase.bits}-bit: ${bytes}  ${campaign.disassemble(fuzzCase)}`,
    `  ${registers}`,
    `  flags ${showFlags(fuzzCase.flags)} fs ${hex(fuzzCase.fsBase)} gs ${hex(fuzzCase.gsBase)}`,
    ...lines.map((line) => `  ${line}`),
    `  repro: ${serialize(fuzzCase)}`,
  ].join("\n");
}

/** A case as one line, for `--repro` and regressions.ts. */
export function serialize(fuzzCase: FuzzCase): string {
  const { slot, bits, code, gpr, flags, fsBase, gsBase, xsave, data } = fuzzCase;
  return JSON.stringify({
    slot,
    bits,
    code: code.map(({ at, bytes }) => [at, Buffer.from(bytes).toString("hex")]),
    gpr: gpr.map((value) => value.toString(16)).join(" "),
    flags,
    fs: fsBase.toString(16),
    gs: gsBase.toString(16),
    // Without the middle of an XSAVE area, which is zeros.
    vectors: Buffer.from(xsave).toString("base64"),
    data: [data.from, ...data.words.map(({ at, value }) => [at, value.toString(16)])],
  });
}

export function deserialize(line: string): FuzzCase {
  const read = JSON.parse(line) as {
    slot: number;
    bits: 16 | 32 | 64;
    code: [number, string][];
    gpr: string;
    flags: number;
    fs: string;
    gs: string;
    vectors: string;
    data: [number, ...[number, string][]];
  };
  const number = (text: string) => BigInt(`0x${text}`);
  const [from, ...words] = read.data;
  return {
    slot: read.slot,
    bits: read.bits,
    code: read.code.map(([at, bytes]) => ({ at, bytes: Uint8Array.from(Buffer.from(bytes, "hex")) })),
    gpr: read.gpr.split(" ").map(number),
    flags: read.flags,
    fsBase: number(read.fs),
    gsBase: number(read.gs),
    xsave: Uint8Array.from(Buffer.from(read.vectors, "base64")),
    data: { from, words: words.map(([at, value]) => ({ at, value: number(value) })) },
  };
}
