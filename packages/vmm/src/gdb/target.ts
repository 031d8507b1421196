/** What a debugger needs of a machine. Its vCPUs are the debugger's threads. */

import type { GuestRegisters } from "./registers.ts";

/** `software`: an int3 in the guest's memory. `execute`, `write`, `access`: a debug register. */
export interface Breakpoint {
  readonly kind: "software" | "execute" | "write" | "access";
  readonly address: bigint;
  /** Of the bytes watched: 1, 2, 4 or 8. */
  readonly length: number;
}

export interface DebugStop {
  readonly vcpu: number;
  /** Why: a breakpoint of ours, a step that is done, somebody who asked for it, or the machine's end. */
  readonly reason: "breakpoint" | "step" | "interrupt" | "ended";
  /** The breakpoint that it was, where the hypervisor says. */
  readonly breakpoint?: Breakpoint;
}

export interface DebugTarget {
  /** The vCPUs' numbers. */
  readonly vcpus: readonly number[];
  /** Told of every stop, once for each {@link resume}. */
  onStop: (stop: DebugStop) => void;

  /** Stops all vCPUs; resolves when they stand. No {@link onStop} follows. */
  pause(): Promise<void>;
  /** Lets all vCPUs run, or makes one of them execute a single instruction. */
  resume(step?: number): Promise<void>;
  /** Asks running vCPUs to stop, which {@link onStop} tells. */
  interrupt(): void;

  /** The rest is for vCPUs that stand. */
  registers(vcpu: number): Promise<GuestRegisters>;
  setRegisters(vcpu: number, registers: GuestRegisters): Promise<void>;
  /** Guest memory by this vCPU's page tables: as many bytes as are mapped, from the first on. */
  readMemory(vcpu: number, address: bigint, length: number): Promise<Buffer>;
  /** False when a byte is not mapped to RAM; nothing is written then. */
  writeMemory(vcpu: number, address: bigint, data: Buffer): Promise<boolean>;
  /** These are all from now on. False when the processor has too few debug registers; nothing changed then. */
  setBreakpoints(breakpoints: readonly Breakpoint[]): Promise<boolean>;
}
