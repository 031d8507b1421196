/** Moves of AVX that differ from those of SSE, and broadcasts: Intel SDM vol. 2. */

import { i8x16 } from "../../wasm/simd.ts";
import type { Alignment, Context, Meaning } from "../context.ts";
import { vectors } from "../sse/table.ts";
import { zeros } from "../sse/vectors.ts";
import { readBoth, vex, writeBoth } from "./vex.ts";

/** Between registers and memory of 16 or 32 bytes. */
function move(alignment: Alignment): Meaning {
  return (c) => {
    const isWide = c.operands[0]!.size === 32;
    const value = isWide ? c.readWide(1, alignment) : { low: c.readVector(1, alignment), high: zeros() };
    if (isWide || c.operands[0]!.kind === "xmm")
      c.writeWide(0, { low: c.let(value.low), high: c.let(value.high) }, alignment);
    else c.writeVector(0, value.low, alignment);
  };
}

const aligned = move("aligned");
const unaligned = move("unaligned");

/** VMOVNTDQA and its kin on memory that WebAssembly has no hints for. */
const load = vex(vectors["movss.load"]!);
const store = (name: string): Meaning => vectors[name]!;

/** The lowest bytes of operand 1 in every lane. */
function broadcast(size: 1 | 2 | 4 | 8): Meaning {
  const everywhere = Array.from({ length: 16 }, (_, byte) => byte % size);
  return (c) => {
    const value = c.let(c.readVector(1, "unaligned"));
    const filled = c.let(i8x16.shuffle(value, value, everywhere));
    writeBoth(c, 0, { low: filled, high: filled });
  };
}

/** All 16 bytes of operand 1 in both halves. */
const broadcastHalf: Meaning = (c) => {
  const value = c.let(c.readVector(1, "unaligned"));
  writeBoth(c, 0, { low: value, high: value });
};

/** VINSERTF128 and VINSERTI128: operand 2 as one of the halves of operand 1. */
const insertHalf: Meaning = (c) => {
  const value = c.let(c.readVector(2, "unaligned"));
  const { low, high } = readBoth(c, 1);
  writeBoth(c, 0, c.immediate(3) & 1 ? { low, high: value } : { low: value, high });
};

const extractHalf: Meaning = (c) => {
  const { low, high } = readBoth(c, 1);
  const value = c.immediate(2) & 1 ? high : low;
  if (c.operands[0]!.kind === "mem") c.writeVector(0, value, "unaligned");
  else c.writeWide(0, { low: value, high: zeros() });
};

/** Outside 64-bit mode there are eight registers, and the others are left alone. */
const registers = (c: Context) => Array.from({ length: c.bits === 64 ? 16 : 8 }, (_, register) => register);

export const avxMoves: Record<string, Meaning> = {
  ...{ vmovaps: aligned, vmovapd: aligned, vmovdqa: aligned },
  ...{ vmovups: unaligned, vmovupd: unaligned, vmovdqu: unaligned, vlddqu: unaligned },
  ...{ vmovntps: aligned, vmovntpd: aligned, vmovntdq: aligned, vmovntdqa: aligned },
  ...{ "vmovss.load": load, "vmovsd.load": load, "vmovss.store": store("movss"), "vmovsd.store": store("movsd") },
  ...{ "vmovlps.store": store("movlps"), "vmovlpd.store": store("movlpd") },
  ...{ "vmovhps.store": store("movhps"), "vmovhpd.store": store("movhpd") },

  ...{ vbroadcastss: broadcast(4), vbroadcastsd: broadcast(8) },
  ...{ vpbroadcastb: broadcast(1), vpbroadcastw: broadcast(2), vpbroadcastd: broadcast(4), vpbroadcastq: broadcast(8) },
  ...{ vbroadcastf128: broadcastHalf, vbroadcasti128: broadcastHalf },
  ...{ vinsertf128: insertHalf, vinserti128: insertHalf, vextractf128: extractHalf, vextracti128: extractHalf },

  vzeroupper: (c) => {
    for (const register of registers(c)) c.setUpperHalf(register, zeros());
  },
  vzeroall: (c) => {
    for (const register of registers(c)) {
      c.setVectorRegister(register, zeros());
      c.setUpperHalf(register, zeros());
    }
  },
};
