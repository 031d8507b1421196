/** How the first vCPU begins, after each boot protocol; the others wait for it. */

import { Cr0, flatProtectedMode, longMode, type Regs, type Segment, taskState, type Vcpu } from "@lodge/kvm";
import { Boot } from "../memory/address-map.ts";

/** A vCPU's first state; can be posted to its thread. Registers that are not named are 0. */
export interface Entry {
  /** `protected`: 32 bits without paging. `long`: 64 bits on the identity map of {@link writeBootTables}. */
  readonly mode: "protected" | "long";
  readonly rip: number;
  readonly rsp?: number;
  readonly rax?: number;
  readonly rbx?: number;
  readonly rsi?: number;
}

/** Selectors as Linux's 64-bit boot protocol wants them, which is fine for the others: __BOOT_CS, __BOOT_DS, a TSS. */
const CODE = 0x10;
const DATA = 0x18;
const TASK = 0x20;

const PAGE = 4096;
const LARGE_PAGE = 2 * 2 ** 20;
const PRESENT_WRITABLE = 3n;
const LARGE = 0x80n;

/** Writes what {@link Entry} stands on: a GDT, and page tables that map the first 4 GiB to themselves. */
export function writeBootTables(low: DataView): void {
  // Code and data of all addresses; the code's L and D bits differ (Intel SDM vol. 3, 3.4.5).
  const descriptors = [0n, 0n, 0x00af9b000000ffffn, 0x00cf93000000ffffn, 0x00008b0000000067n, 0n];
  for (const [index, descriptor] of descriptors.entries()) low.setBigUint64(Boot.GDT + index * 8, descriptor, true);

  const top = Boot.PAGE_TABLES;
  const pointers = top + PAGE;
  low.setBigUint64(top, BigInt(pointers) | PRESENT_WRITABLE, true);
  for (let gib = 0; gib < 4; gib++) {
    const directory = pointers + PAGE * (1 + gib);
    low.setBigUint64(pointers + gib * 8, BigInt(directory) | PRESENT_WRITABLE, true);
    for (let index = 0; index < 512; index++) {
      const address = BigInt((gib * 512 + index) * LARGE_PAGE);
      low.setBigUint64(directory + index * 8, address | LARGE | PRESENT_WRITABLE, true);
    }
  }
}

export function enter(vcpu: Vcpu, entry: Entry): void {
  const before = vcpu.getSregs();
  const long = entry.mode === "long";
  const sregs = long ? longMode(before, BigInt(Boot.PAGE_TABLES)) : flatProtectedMode(before);
  const data: Segment = { ...sregs.ds, selector: DATA };
  vcpu.setSregs({
    ...sregs,
    cs: { ...sregs.cs, selector: CODE },
    ds: data,
    es: data,
    fs: data,
    gs: data,
    ss: data,
    tr: taskState(TASK),
    gdt: { base: BigInt(Boot.GDT), limit: 6 * 8 - 1 },
    idt: { base: 0n, limit: 0 },
    ...(long ? {} : { cr0: Cr0.PE | Cr0.ET }),
  });
  const { rip, rsp = 0, rax = 0, rbx = 0, rsi = 0 } = entry;
  vcpu.setRegs({
    ...NO_REGS,
    rip: BigInt(rip),
    rsp: BigInt(rsp),
    rax: BigInt(rax),
    rbx: BigInt(rbx),
    rsi: BigInt(rsi),
  });
}

const NO_REGS: Regs = {
  rax: 0n,
  rbx: 0n,
  rcx: 0n,
  rdx: 0n,
  rsi: 0n,
  rdi: 0n,
  rsp: 0n,
  rbp: 0n,
  r8: 0n,
  r9: 0n,
  r10: 0n,
  r11: 0n,
  r12: 0n,
  r13: 0n,
  r14: 0n,
  r15: 0n,
  rip: 0n,
  rflags: 2n,
};
