/** CLI, STI, PUSHF, POPF, STAC, CLAC (Intel SDM vol. 2) where nothing unusual comes of them; else microcode has them. */

import { Cr4 } from "@lodge/kvm";
import { Mode, Seg, State, Tlb } from "../../cpu/layout.ts";
import { CpuState, Flag } from "../../cpu/state.ts";
import { Shadow } from "../../system/vcpu-events.ts";
import type { I32 } from "../../wasm/expr.ts";
import { c32, c64, i32, i64, select } from "../../wasm/ops.ts";
import { type Context, Gpr, type Meaning } from "../context.ts";
import { fromI64, low32, zeroExtend } from "../words.ts";
import { bank, hasBits, isNotRing, needAttention, rflags, setRflags } from "./state.ts";

const IOPL_SHIFT = 12;

/** Whether the privilege does not reach for IF: in real mode it always does, as the level is 0. */
function lacksIopl(c: Context): I32 {
  return i32.gt_u(c.state32(State.cpl), i32.and(i32.shr_u(c.flagRest(), c32(IOPL_SHIFT)), c32(3)));
}

function inVirtual8086(c: Context): I32 {
  return c.bits === 64 ? c32(0) : hasBits(c.state32(State.mode), Mode.VM86);
}

/** IRET's and POPF's flags whoever runs. */
const ALWAYS = CpuState.arithmetic | Flag.TF | Flag.DF | Flag.NT | Flag.AC | Flag.ID;

const popFlags: Meaning = (c) => {
  const size = c.operandSize;
  const stack = c.let(zeroExtend(c.stackSize, c.gpr(Gpr.RSP, c.stackSize)));
  const image = c.let(low32(c.load(size, c.linear(Seg.SS, stack, size, "read"))));
  const old = c.let(rflags(c));
  const low = size === 2 ? 0xffff : -1;
  const mask = c.let(
    i32.or(
      c32(ALWAYS & low),
      i32.or(select(lacksIopl(c), c32(0), c32(Flag.IF)), select(isNotRing(c, 0), c32(0), c32(Flag.IOPL))),
    ),
  );
  const kept = i32.and(old, i32.xor(mask, c32(-1)));
  const flags = c.let(i32.and(i32.or(i32.and(image, mask), kept), c32(~Flag.RF)));
  // AC decides which pages ring 0 may touch.
  const unusual = i32.or(needAttention(c, old, flags), hasBits(i32.xor(old, flags), Flag.AC));
  c.microcodeIf(i32.or(unusual, inVirtual8086(c)));
  c.setGpr(Gpr.RSP, c.stackSize, fromI64(c.stackSize, i64.add(stack, c64(size))));
  setRflags(c, flags);
};

/** Where CR4.SMAP is not set the flag changes nothing that is looked at here: microcode knows if it exists. */
function setAlignmentFlag(set: boolean): Meaning {
  return (c) => {
    c.microcodeIf(i32.or(isNotRing(c, 0), i32.eqz(i32.and(c.state32(State.cr4), c32(Number(Cr4.SMAP))))));
    const flags = c.flagRest();
    c.setFlagRest(set ? i32.or(flags, c32(Flag.AC)) : i32.and(flags, c32(~Flag.AC)));
    c.selectBank(bank(c, set ? Tlb.SUPERVISOR_AC : Tlb.SUPERVISOR));
  };
}

export const flagInstructions: Record<string, Meaning> = {
  cli: (c) => {
    c.microcodeIf(lacksIopl(c));
    c.setFlagRest(i32.and(c.flagRest(), c32(~Flag.IF)));
  },
  sti: (c) => {
    const flags = c.let(c.flagRest());
    const isClosed = c.let(i32.eqz(i32.and(flags, c32(Flag.IF))));
    c.microcodeIf(i32.or(lacksIopl(c), i32.and(isClosed, c.state32(State.eventWaits))));
    c.code.if(isClosed, () => {
      // Interrupts wait for one more instruction.
      c.setState32(State.interruptShadow, c32(Shadow.STI));
      c.setState64(State.shadowRip, c.nextRip());
      c.setFlagRest(i32.or(flags, c32(Flag.IF)));
    });
  },
  pushf: (c) => {
    if (c.bits !== 64) {
      c.microcodeIf(i32.and(inVirtual8086(c), i32.ne(i32.and(c.flagRest(), c32(Flag.IOPL)), c32(Flag.IOPL))));
    }
    // The image has VM and RF clear.
    const image = i32.and(rflags(c), c32(~(Flag.VM | Flag.RF)));
    c.push(c.operandSize, fromI64(c.operandSize, i64.extend_i32_u(image)));
  },
  popf: popFlags,
  stac: setAlignmentFlag(true),
  clac: setAlignmentFlag(false),
};
