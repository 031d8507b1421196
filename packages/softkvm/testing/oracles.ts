/**
 * Two hosts with a real KVM, and where they are known to do otherwise than the processors that the manuals describe.
 *
 * `machine`: the /dev/kvm of the machines that we build on. Ring 0 is the kernel's instruction emulator, ring 3 runs on
 * the processor, but with the host's own segments and flags.
 * `lab`: kvm-amd in the lab. All is executed by QEMU's TCG (7.2), which plays an AMD processor.
 */

import type { Segment } from "@lodge/kvm";
import { PageFault, Pte } from "../src/mmu/paging.ts";
import { Msr } from "../src/system/msr.ts";
import { isCanonical } from "../src/system/processor.ts";
import type { Ending } from "./beside-kvm.ts";
import type { Scenario } from "./scenario.ts";
import { IS_AMD } from "./vendor.ts";

export interface Oracle {
  readonly tssType: number;
  readonly oddStacks: boolean;
  /** Why a case says nothing here. */
  skip(scenario: Scenario): string | undefined;
  /** Whether a difference is the oracle's. */
  tolerates(difference: string, scenario: Scenario, kvm: Ending, soft: Ending): boolean;
  /** The same of a page fault's error code, and of an entry of the page tables afterwards. */
  toleratesError(kvm: number, soft: number): boolean;
  toleratesEntry(kvm: bigint, soft: bigint): boolean;
}

/** What ring 3 does on the processor itself with segments and flags that are the host's. */
const SEES_HOST = new Set([
  ...["mov sreg", "mov from sreg", "pop fs/gs", "push fs/gs", "pop sreg", "push sreg", "lss/lfs/lgs", "lds/les"],
  ...["jmp far", "jmp far mem", "call far", "call far mem", "retf", "iret", "lar/lsl", "verr/verw", "arpl"],
  ...["pushf", "popf", "syscall", "sysenter/sysexit", "int", "int3", "into", "int1"],
]);
/** What the kernel's emulator lacks (it ends in an internal error or #UD) or does by halves. */
const NOT_EMULATED = new Set(["int", "int3", "into", "int1", "iret", "sysret"]);

const PAT = BigInt(Msr.PAT);
const TSC_AUX = BigInt(Msr.TSC_AUX);

const machine: Oracle = {
  tssType: 11,
  // Its delivery does not look at the stack's descriptor.
  oddStacks: false,
  skip: ({ name, mode, state }) => {
    if (mode === "vm86") return "exceptions leave virtual-8086 mode without its frame";
    const user = state.sregs.cs.dpl === 3 && mode !== "real";
    if (user && SEES_HOST.has(name)) return "executed with the host's segments and flags";
    if (mode !== "real" && NOT_EMULATED.has(name)) return "not emulated";
    if (name === "wrmsr, rdmsr" && state.regs.rcx === PAT) return "memory types are not looked at";
    if (name === "wrmsr, rdmsr" && state.regs.rcx === TSC_AUX) return "without RDTSCP";
    // 66 makes its INT push 32 bits; SYSRET and SWAPGS are executed outside of 64-bit mode.
    if (mode === "real" && ["int3", "int", "int1", "into", "sysret"].includes(name)) return "emulated by halves";
    if (mode !== "long" && ["swapgs", "sysret"].includes(name)) return "executed outside of 64-bit mode";
    // Its emulator goes by the guest's vendor, which is the host's: which modes have these.
    if (IS_AMD && mode !== "real" && ["syscall", "sysenter/sysexit"].includes(name)) return "AMD's, in other modes";
    return undefined;
  },
  tolerates: (difference, { name, mode }, kvm, soft) =>
    // It leaves a null SS usable, and gives it a type and a limit.
    (mode !== "real" && soft.sregs.ss.unusable === 1 && /^sregs\.ss\.(?!selector)/.test(difference)) ||
    // LTR of a selector of the LDT has an error code of 0; the upper half's type is not looked at.
    (name === "lldt/ltr" && (mode !== "protected" || difference.startsWith("memory 0x"))) ||
    // Rings 1 to 3 do not keep AC.
    (name === "popf" && isBit(difference, "regs.rflags", 0x40000n)) ||
    // It has no paging outside of long mode.
    (name === "mov to cr0" && (soft.sregs.cr0 & 0x80000000n) !== 0n && kvm.regs.rip === 0x2035n) ||
    // RTM's bit is 0 although CPUID was told to lack it.
    isBit(difference, "dr6", 0x10000n) ||
    // JMP and CALL write the accessed bit before the offset is found to be beyond the limit.
    (/ far/.test(name) && /^memory 0x[47]/.test(difference)),
  toleratesError: () => false,
  toleratesEntry: () => false,
};

const lab: Oracle = {
  tssType: 9,
  oddStacks: true,
  skip: ({ name, mode, state }) => {
    if (name === "int1") return "QEMU has none";
    if (name === "wrmsr, rdmsr" && writesNoAddress(state)) return "QEMU takes addresses that are not canonical";
    if (name === "syscall") return "QEMU loses the arithmetic flags";
    if (mode !== "protected" && ["sysret", "sysenter/sysexit"].includes(name)) return "AMD's, in other modes";
    if (name === "push sreg" || name === "push fs/gs") return "QEMU writes the upper half of the slot";
    if (name === "mov dr") return "QEMU keeps reserved bits, and looks at upper halves in 32-bit code";
    if (name === "lgdt/lidt" && mode === "long") return "QEMU takes bases that are not canonical";
    if (mode === "long" && / mem$|^lss/.test(name)) return "AMD has no far pointers with 64 bits of offset";
    if (name === "rd/wrfsbase") return "QEMU takes a REX prefix that stands before F3";
    if (mode === "vm86" || mode === "real") return / far|^retf|^iret/.test(name) ? "QEMU checks no limits" : undefined;
    return undefined;
  },
  tolerates: (difference, { name, mode }, kvm, soft) => {
    if (difference.startsWith("sregs.tr.type")) return true;
    if (mode !== "real" && difference.startsWith("sregs.ss.unusable")) return true;
    // QEMU leaves a null LDT its type.
    if (name === "lldt/ltr" && soft.sregs.ldt.unusable === 1 && /^sregs\.ldt\.(type|present|unusable)/.test(difference))
      return true;
    const memory = /^memory 0x(\w+): kvm 0x(\w+), soft 0x(\w+)$/.exec(difference);
    if (memory) {
      const [address, theirs, ours] = memory.slice(1).map((text) => Number.parseInt(text, 16)) as [
        number,
        number,
        number,
      ];
      // QEMU sets no RF in the flags that it pushes.
      if ((ours ^ theirs) === 1 && ours & 1 && (address & 3) === 2) return true;
      // QEMU sets no accessed bit of code that far transfers lead to.
      if ((ours ^ theirs) === 1 && address >= 0x4000 && address < 0x7100) return true;
      // The error code of a gate in long mode has its index times 16.
      if (/^int/.test(name) && kvm.regs.rsp === soft.regs.rsp && BigInt(address & ~7) === kvm.regs.rsp) return true;
    }
    if (difference.startsWith("sregs.cs.type")) return true;
    // QEMU loads a null SS whose RPL is not the CPL.
    if (name === "mov sreg" && mode === "long") return kvm.sregs.ss.selector !== soft.sregs.ss.selector;
    // QEMU returns to code that is both 64 and 32 bits.
    if (/^retf|^iret/.test(name) && kvm.sregs.cs.l === 1 && kvm.sregs.cs.db === 1) return true;
    // QEMU looks at no limit of the code that these go to, and fetches there.
    if (/ far|^retf|^iret/.test(name) && kvm.sregs.cr2 !== 0n && soft.sregs.cr2 === 0n) return true;
    // QEMU returns to virtual-8086 mode from long mode.
    if (name === "iret" && (mode === "long" || mode === "compat") && isRealSegment(kvm.sregs.ds)) return true;
    // QEMU looks at no limits of stacks and 64-bit code, and takes a TSS of the LDT.
    return kvm.end === "halt" && (soft.end === "shutdown" || / far/.test(name) || mode === "vm86");
  },
  // QEMU's fault by a reserved bit is one of a page that is not there.
  toleratesError: (kvm, soft) => (soft & PageFault.RSVD) !== 0 && soft === (kvm | PageFault.P),
  // QEMU marks an entry as accessed when it comes by, the processor and KVM when the whole walk has succeeded.
  toleratesEntry: (kvm, soft) => kvm === (soft | BigInt(Pte.A)),
};

export const oracle: Oracle = process.env.LODGE_LAB === undefined ? machine : lab;

const ADDRESSES: readonly number[] = [Msr.LSTAR, Msr.CSTAR, Msr.FS_BASE, Msr.GS_BASE, Msr.KERNEL_GS_BASE];

/** WRMSR of something that is not canonical to a register that holds an address. */
function writesNoAddress({ regs }: Scenario["state"]): boolean {
  const value = (BigInt.asUintN(32, regs.rdx) << 32n) | BigInt.asUintN(32, regs.rax);
  return ADDRESSES.includes(Number(regs.rcx)) && !isCanonical(value);
}

function isRealSegment({ base, selector }: Segment): boolean {
  return selector !== 0 && base === BigInt(selector) << 4n;
}

function isBit(difference: string, field: string, bit: bigint): boolean {
  const values = new RegExp(`^${field}: kvm (0x\\w+), soft (0x\\w+)$`).exec(difference);
  return values !== null && (BigInt(values[1]!) ^ BigInt(values[2]!)) === bit;
}
