/** A vCPU's registers at its guest's first instruction. */

import {
  type CpuidEntry,
  flatProtectedMode,
  flatRealMode,
  longMode,
  longModeUser,
  type MpState,
  Selector,
  type Sregs,
  taskState,
  type Vcpu,
} from "../src/index.ts";
import type { Mode } from "./guest.ts";
import { CODE, GDT, IDT, PAGE_TABLES, STACK, TSS, USER_STACK } from "./layout.ts";
import { GDT_LIMIT } from "./tables.ts";

/** How a vCPU begins; can be posted to the thread that creates it. */
export interface VcpuSetup {
  readonly id: number;
  /** Left as created without one: at the reset vector, or waiting for INIT. */
  readonly mode?: Mode | undefined;
  readonly rip?: number;
  readonly rsp?: number;
  readonly cpuid?: readonly CpuidEntry[] | undefined;
  readonly mpState?: MpState;
}

export function setUp(vcpu: Vcpu, setup: VcpuSetup): void {
  if (setup.cpuid !== undefined) vcpu.setCpuid(setup.cpuid);
  if (setup.mpState !== undefined) vcpu.setMpState(setup.mpState);
  if (setup.mode === undefined) return;
  vcpu.setSregs(systemRegisters(setup.mode, vcpu.getSregs()));
  vcpu.setRegs({
    ...vcpu.getRegs(),
    rip: BigInt(setup.rip ?? CODE),
    rsp: BigInt(setup.rsp ?? (setup.mode === "user" ? USER_STACK : STACK)),
    rflags: 2n,
  });
}

export function systemRegisters(mode: Mode, sregs: Sregs): Sregs {
  const tables = {
    gdt: { base: BigInt(GDT), limit: GDT_LIMIT },
    idt: { base: BigInt(IDT), limit: 0xfff },
    tr: taskState(Selector.TSS, BigInt(TSS)),
  };
  switch (mode) {
    case "real":
      return flatRealMode(sregs);
    case "protected":
      return { ...flatProtectedMode(sregs), ...tables };
    case "long":
      return { ...longMode(sregs, BigInt(PAGE_TABLES)), ...tables };
    case "user":
      return { ...longModeUser(sregs, BigInt(PAGE_TABLES)), ...tables };
  }
}
