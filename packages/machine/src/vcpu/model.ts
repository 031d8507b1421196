/** Which CPUID leaves a machine's vCPUs share: the accelerator's own, or those of a model, so that a machine can move. */

import { Capability, type CpuidEntry, type Hypervisor } from "@lodge/kvm";

/** The model that is whatever the accelerator has. */
const HOST = "host";

/** Bits of CPUID 1.ECX that KVM leaves to the monitor to add (api.rst 4.46). Without HYPERVISOR no guest looks for KVM's leaves. */
const TSC_DEADLINE = 1 << 24;
const HYPERVISOR = 1 << 31;

/** Leaves whose bits promise something, and in which registers; the others describe. */
const PROMISES: readonly { leaf: number; index: number; registers: readonly ("eax" | "ebx" | "ecx" | "edx")[] }[] = [
  { leaf: 1, index: 0, registers: ["ecx", "edx"] },
  { leaf: 7, index: 0, registers: ["ebx", "ecx", "edx"] },
  { leaf: 7, index: 1, registers: ["eax", "ebx", "ecx", "edx"] },
  { leaf: 0xd, index: 0, registers: ["eax", "edx"] },
  { leaf: 0xd, index: 1, registers: ["eax", "ecx", "edx"] },
  { leaf: 0x40000001, index: 0, registers: ["eax"] },
  { leaf: 0x80000001, index: 0, registers: ["ecx", "edx"] },
];

/** The x87 and SSE registers, and the header. */
const XSAVE_LEGACY_BYTES = 576;

/** The leaves for a model's name, as `cpuModel` of softkvm knows them; `host` or none: all that the accelerator has. */
export async function sharedCpuid(hypervisor: Hypervisor, model: string = HOST): Promise<CpuidEntry[]> {
  if (hypervisor.kind === "soft") {
    return model === HOST ? hypervisor.supportedCpuid() : (await import("@lodge/softkvm")).cpuModel(model);
  }
  const added = HYPERVISOR | (hypervisor.checkExtension(Capability.TSC_DEADLINE_TIMER) > 0 ? TSC_DEADLINE : 0);
  const supported = hypervisor
    .supportedCpuid()
    .map((entry) => (entry.function === 1 ? { ...entry, ecx: (entry.ecx | added) >>> 0 } : entry));
  if (model === HOST) return supported;
  return restrict(supported, (await import("@lodge/softkvm")).cpuModel(model));
}

/** What the processor has, without what the model has not. */
export function restrict(supported: readonly CpuidEntry[], model: readonly CpuidEntry[]): CpuidEntry[] {
  const kept = supported.map((entry) => {
    const promise = PROMISES.find(({ leaf, index }) => leaf === entry.function && index === entry.index);
    if (promise === undefined) return entry;
    const wanted = model.find((other) => other.function === promise.leaf && other.index === promise.index);
    const kept = { ...entry };
    for (const register of promise.registers) {
      kept[register] = (entry[register] & (wanted?.[register] ?? 0)) >>> 0;
    }
    return kept;
  });
  return fitXsave(kept);
}

/** Leaf 0xd describes the components of XCR0 that are left, and what XSAVE takes for those (Intel SDM vol. 1, 13.2). */
function fitXsave(entries: readonly CpuidEntry[]): CpuidEntry[] {
  const [main, extended] = [0, 1].map((index) =>
    entries.find((entry) => entry.function === 0xd && entry.index === index),
  );
  const has = (component: number) =>
    [main?.eax ?? 0, extended?.ecx ?? 0].some((components) => (components >>> component) & 1);
  const left = entries.filter(({ function: leaf, index }) => leaf !== 0xd || index < 2 || (index < 32 && has(index)));
  const ends = left
    .filter(({ function: leaf, index }) => leaf === 0xd && index >= 2 && ((main?.eax ?? 0) >>> index) & 1)
    .map(({ eax, ebx }) => eax + ebx);
  const bytes = Math.max(XSAVE_LEGACY_BYTES, ...ends);
  return left.map((entry) => (entry === main && main.eax !== 0 ? { ...entry, ebx: bytes, ecx: bytes } : entry));
}
