/** The processor's registers: arch/x86/include/uapi/asm/kvm.h. */

import { address, array, bytes, type Infer, padding, struct, u8, u16, u32, u64 } from "./struct.ts";

export const Regs = struct("kvm_regs", {
  rax: u64,
  rbx: u64,
  rcx: u64,
  rdx: u64,
  rsi: u64,
  rdi: u64,
  rsp: u64,
  rbp: u64,
  r8: u64,
  r9: u64,
  r10: u64,
  r11: u64,
  r12: u64,
  r13: u64,
  r14: u64,
  r15: u64,
  rip: u64,
  rflags: u64,
});
export type Regs = Infer<typeof Regs>;

/** A segment register with its hidden part. The flags are the descriptor's bits (Intel SDM vol. 3, 3.4.5), 0 or 1. */
export const Segment = struct("kvm_segment", {
  base: u64,
  limit: u32,
  selector: u16,
  type: u8,
  present: u8,
  dpl: u8,
  db: u8,
  s: u8,
  l: u8,
  g: u8,
  avl: u8,
  unusable: u8,
  padding: padding(u8),
});
export type Segment = Infer<typeof Segment>;

/** GDTR or IDTR. */
export const DescriptorTable = struct("kvm_dtable", { base: u64, limit: u16, padding: padding(u16, 3) });
export type DescriptorTable = Infer<typeof DescriptorTable>;

const systemRegisters = {
  cs: Segment,
  ds: Segment,
  es: Segment,
  fs: Segment,
  gs: Segment,
  ss: Segment,
  tr: Segment,
  ldt: Segment,
  gdt: DescriptorTable,
  idt: DescriptorTable,
  cr0: u64,
  cr2: u64,
  cr3: u64,
  cr4: u64,
  cr8: u64,
  efer: u64,
  apicBase: u64,
};

/** Segments, tables, control registers. `interruptBitmap` has the one external interrupt that waits to be injected. */
export const Sregs = struct("kvm_sregs", { ...systemRegisters, interruptBitmap: array(u64, 4) });
export type Sregs = Infer<typeof Sregs>;

/** {@link Sregs} with the PAE page directory pointers instead of a pending interrupt (`KVM_CAP_SREGS2`). */
export const Sregs2 = struct("kvm_sregs2", { ...systemRegisters, flags: u64, pdptrs: array(u64, 4) });
export type Sregs2 = Infer<typeof Sregs2>;

/** `Sregs2.flags`: the PDPTRs are valid (`KVM_SREGS2_FLAGS_PDPTRS_VALID`). */
export const SREGS2_PDPTRS_VALID = 1n;

/** x87 and SSE state. `fpr` holds eight 80-bit registers in 16 bytes each, `xmm` sixteen of 16 bytes. */
export const Fpu = struct("kvm_fpu", {
  fpr: bytes(128),
  fcw: u16,
  fsw: u16,
  /** The abridged tag word: a bit for each register that is not empty. */
  ftwx: u8,
  pad1: padding(u8),
  lastOpcode: u16,
  lastIp: u64,
  lastDp: u64,
  xmm: bytes(256),
  mxcsr: u32,
  pad2: padding(u32),
});
export type Fpu = Infer<typeof Fpu>;

/** The XSAVE area that `KVM_GET_XSAVE` knows; `KVM_GET_XSAVE2` may fill a larger one. */
export const XSAVE_SIZE = 4096;

const Xcr = struct("kvm_xcr", { xcr: u32, reserved: padding(u32), value: u64 });

/** Extended control registers; `nrXcrs` of the sixteen count. XCR0 is the only one that exists so far. */
export const Xcrs = struct("kvm_xcrs", { nrXcrs: u32, flags: u32, xcrs: array(Xcr, 16), padding: padding(u64, 16) });
export type Xcrs = Infer<typeof Xcrs>;

export const DebugRegs = struct("kvm_debugregs", {
  db: array(u64, 4),
  dr6: u64,
  dr7: u64,
  flags: u64,
  reserved: padding(u64, 9),
});
export type DebugRegs = Infer<typeof DebugRegs>;

/** A guest virtual address and what the guest's own tables make of it. */
export const Translation = struct("kvm_translation", {
  linearAddress: u64,
  physicalAddress: address,
  valid: u8,
  writeable: u8,
  usermode: u8,
  pad: padding(u8, 5),
});
export type Translation = Infer<typeof Translation>;

/** One model-specific register and its value. */
export const MsrEntry = struct("kvm_msr_entry", { index: u32, reserved: padding(u32), data: u64 });
export type MsrEntry = Infer<typeof MsrEntry>;

/** `struct kvm_msrs`, `kvm_msr_list` and `kvm_cpuid2` begin with a count; entries follow at these offsets. */
export const MSRS_HEADER = 8;
export const MSR_LIST_HEADER = 4;
export const CPUID_HEADER = 8;

/** One CPUID leaf. `flags` bit 0: `index` (the subleaf) is significant. */
export const CpuidEntry = struct("kvm_cpuid_entry2", {
  function: u32,
  index: u32,
  flags: u32,
  eax: u32,
  ebx: u32,
  ecx: u32,
  edx: u32,
  padding: padding(u32, 3),
});
export type CpuidEntry = Infer<typeof CpuidEntry>;

/** `CpuidEntry.flags`: KVM_CPUID_FLAG_SIGNIFCANT_INDEX. */
export const CPUID_SIGNIFICANT_INDEX = 1;
