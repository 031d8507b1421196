/** RDTSC and RDTSCP (Intel SDM vol. 2), where the time is nobody's secret. */

import { State } from "../../cpu/layout.ts";
import { Cr4More } from "../../system/features.ts";
import { c64, i64 } from "../../wasm/ops.ts";
import { type Context, Gpr, type Meaning } from "../context.ts";
import { hasBits } from "./state.ts";

function readTime(c: Context): void {
  c.microcodeIf(hasBits(c.state32(State.cr4), Number(Cr4More.TSD)));
  const now = c.timeStamp();
  c.setGpr(Gpr.RAX, 8, i64.and(now, c64(0xffffffff)));
  c.setGpr(Gpr.RDX, 8, i64.shr_u(now, c64(32)));
}

const rdtsc: Meaning = readTime;

const rdtscp: Meaning = (c) => {
  readTime(c);
  c.setGpr(Gpr.RCX, 8, i64.extend_i32_u(c.state32(State.tscAux)));
};

export const timeInstructions: Record<string, Meaning> = { rdtsc, rdtscp };
