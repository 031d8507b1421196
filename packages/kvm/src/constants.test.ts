/** Every constant of KVM's interface against linux/kvm.h. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { evaluateWithKvmHeader, noKernelHeaders } from "../testing/c-program.ts";
import { Capability, capabilityName } from "./capability.ts";
import { COALESCED_RING_ENTRIES } from "./coalesced-ring.ts";
import { InternalError } from "./errors.ts";
import { ExitReason, exitReasonName } from "./exit-reason.ts";
import * as events from "./layout/events.ts";
import * as interrupts from "./layout/interrupts.ts";
import * as registers from "./layout/registers.ts";
import * as run from "./layout/run.ts";
import * as vm from "./layout/vm.ts";
import { Request } from "./linux/requests.ts";

/** Macros that headers of Linux 6.1 (Debian 12) do not have; each is compared where the headers have it. */
const NEWER = [
  "KVM_EXIT_MEMORY_FAULT",
  "KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP",
  "KVM_CAP_PMU_EVENT_MASKED_EVENTS",
  "KVM_CAP_USER_MEMORY2",
  "KVM_CAP_MEMORY_FAULT_INFO",
  "KVM_CAP_MEMORY_ATTRIBUTES",
  "KVM_CAP_GUEST_MEMFD",
  "KVM_CAP_VM_TYPES",
  "KVM_CAP_PRE_FAULT_MEMORY",
  "KVM_CAP_X86_APIC_BUS_CYCLES_NS",
  "KVM_CAP_X86_GUEST_MODE",
  "KVM_CAP_GUEST_MEMFD_FLAGS",
];

/** The keys of one of our tables as C spells them. */
function prefixed(prefix: string, table: Record<string, number | bigint>): Record<string, number | bigint> {
  return Object.fromEntries(Object.entries(table).map(([key, value]) => [prefix + key, value]));
}

const macros: Record<string, number | bigint> = {
  ...Request,
  ...prefixed("KVM_CAP_", Capability),
  ...prefixed("KVM_EXIT_", ExitReason),
  ...prefixed("KVM_INTERNAL_ERROR_", InternalError),
  ...prefixed("KVM_VCPUEVENT_VALID_", events.VcpuEventsFlag),
  ...prefixed("KVM_MP_STATE_", events.MpState),
  ...prefixed("KVM_GUESTDBG_", events.GuestDebugControl),
  ...prefixed("KVM_IRQCHIP_", interrupts.Irqchip),
  ...prefixed("KVM_IRQ_ROUTING_", interrupts.RoutingType),
  ...prefixed("KVM_IRQFD_FLAG_", interrupts.IrqfdFlag),
  ...prefixed("KVM_IOEVENTFD_FLAG_", interrupts.IoeventfdFlag),
  KVM_PIT_SPEAKER_DUMMY: interrupts.PIT_SPEAKER_DUMMY,
  KVM_CPUID_FLAG_SIGNIFCANT_INDEX: registers.CPUID_SIGNIFICANT_INDEX,
  KVM_SREGS2_FLAGS_PDPTRS_VALID: registers.SREGS2_PDPTRS_VALID,
  ...prefixed("KVM_SYNC_X86_", run.SyncRegsFlag),
  ...prefixed("KVM_MEM_", vm.MemoryFlag),
  KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE: vm.ManualDirtyLog.ENABLE,
  KVM_DIRTY_LOG_INITIALLY_SET: vm.ManualDirtyLog.INITIALLY_SET,
  ...prefixed("KVM_DIRTY_GFN_F_", vm.DirtyGfnFlag),
  ...prefixed("KVM_CLOCK_", vm.ClockFlag),
  ...prefixed("KVM_MSR_FILTER_", vm.MsrFilterFlag),
  KVM_MSR_FILTER_MAX_RANGES: vm.MSR_FILTER_RANGES,
  ...prefixed("KVM_MSR_EXIT_REASON_", vm.MsrExitReason),
};

/** Where the entries of lists with a head begin, and what is counted in bytes alone. */
const sizes: Record<string, number> = {
  "offsetof(struct kvm_msrs, entries)": registers.MSRS_HEADER,
  "offsetof(struct kvm_msr_list, indices)": registers.MSR_LIST_HEADER,
  "offsetof(struct kvm_cpuid2, entries)": registers.CPUID_HEADER,
  "offsetof(struct kvm_irq_routing, entries)": interrupts.ROUTING_HEADER,
  "offsetof(struct kvm_irqchip, chip)": interrupts.IRQCHIP_STATE,
  "offsetof(struct kvm_signal_mask, sigset)": 4,
  "sizeof(struct kvm_xsave)": registers.XSAVE_SIZE,
  "(4096 - offsetof(struct kvm_coalesced_mmio_ring, coalesced_mmio)) / sizeof(struct kvm_coalesced_mmio)":
    COALESCED_RING_ENTRIES,
};

test("constants and requests are those of linux/kvm.h", { skip: noKernelHeaders() }, (t) => {
  const ours = [...Object.entries(macros), ...Object.entries(sizes)];
  const theirs = evaluateWithKvmHeader(ours.map(([c]) => (c in macros ? { c, needs: c } : { c })));
  const absent: string[] = [];
  for (const [index, [name, value]] of ours.entries()) {
    const their = theirs[index];
    if (their === undefined) absent.push(name);
    else assert.equal(BigInt(value), their, name);
  }
  const compared = ours.length - absent.length;
  t.diagnostic(`${compared} constants compared, ${absent.length} newer than these headers`);
  assert.deepEqual(
    absent.filter((name) => !NEWER.includes(name)),
    [],
    "no macros of these names",
  );
  assert.ok(compared >= 280, `only ${compared} compared`);
});

test("numbers have the kernel's names, and unknown ones keep their number", () => {
  assert.equal(capabilityName(Capability.IRQCHIP), "KVM_CAP_IRQCHIP");
  assert.equal(capabilityName(5000), "KVM_CAP_5000");
  assert.equal(exitReasonName(ExitReason.IO), "KVM_EXIT_IO");
  assert.equal(exitReasonName(5000), "KVM_EXIT_5000");
});
