/** Whether a hypervisor executes guest kernels on the processor or interprets them. */

import { exitError } from "./errors.ts";
import { ExitReason } from "./exit-reason.ts";
import type { Hypervisor } from "./hypervisor.ts";
import { flatProtectedMode } from "./modes.ts";

/**
 * Nanoseconds that one instruction of a tight ring 0 loop takes: about 1 where the processor executes it, hundreds where
 * the host's kernel interprets it (a /dev/kvm inside a virtual machine may).
 */
export function measureRingZero(hypervisor: Hypervisor): number {
  const memory = hypervisor.createMemory(65536);
  using vm = hypervisor.createVm(memory);
  vm.setMemorySlot({ slot: 0, guestAddress: 0, sizeBytes: 65536, memoryOffset: 0 });
  using vcpu = vm.createVcpu(0);
  // dec %ecx; jnz .-1; hlt
  new Uint8Array(memory.buffer).set([0x49, 0x75, 0xfd, 0xf4], CODE);
  vcpu.setSregs(flatProtectedMode(vcpu.getSregs()));

  const time = (rounds: number): number => {
    vcpu.setRegs({ ...vcpu.getRegs(), rip: BigInt(CODE), rcx: BigInt(rounds), rflags: 2n });
    const start = performance.now();
    let reason = vcpu.run();
    // A signal of the process's own; a run that it interrupted only seems longer.
    while (reason === ExitReason.INTR) reason = vcpu.run();
    if (reason !== ExitReason.HLT) throw exitError(vcpu.page);
    return performance.now() - start;
  };
  // The least of a few: whatever else the host does only adds. The first run pays for page faults.
  const least = (rounds: number): number => Math.min(...Array.from({ length: RUNS }, () => time(rounds)));
  // The difference of two lengths leaves out what entry and exit cost.
  const short = least(SHORT);
  const measure = (rounds: number): number => Math.max(0, ((least(rounds) - short) * 1e6) / (2 * (rounds - SHORT)));
  for (let attempt = 0; ; attempt++) {
    const ns = measure(INTERPRETED);
    // A processor is through with that before the clock has moved.
    if (ns <= INTERPRETED_NS) return measure(EXECUTED);
    // On a busy host also one that executes may be held up every time.
    if (attempt === ATTEMPTS) return ns;
  }
}

/** Above this a guest kernel is interpreted: the slowest emulated processor that executes takes some 20 ns. */
export const INTERPRETED_NS = 50;

const CODE = 0x1000;
const SHORT = 100;
/** Rounds that take a few milliseconds, interpreted or executed. */
const INTERPRETED = 5000;
const EXECUTED = 2_000_000;
const RUNS = 4;
/** Further attempts to find an executing processor: 24 ms each where there is none. */
const ATTEMPTS = 2;
