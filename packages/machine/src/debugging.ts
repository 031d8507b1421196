/** A paused machine as debuggers work on it. vCPUs are given by their index. */

import type { GuestRam } from "@lodge/devices";
import type { GuestDebug } from "@lodge/kvm";
import { MachineError } from "./errors.ts";
import type { Registers } from "./vcpu/protocol.ts";
import type { VcpuThread } from "./vcpu/thread.ts";

/** Why a vCPU stopped: an exception, #DB or #BP, at an instruction; DR6 says which breakpoint, or that it was a step. */
export interface DebugExit {
  readonly vcpu: number;
  readonly exception: number;
  readonly pc: bigint;
  readonly dr6: bigint;
}

export class Debugging {
  readonly ram: GuestRam;
  readonly #vcpus: () => readonly VcpuThread[];

  constructor(ram: GuestRam, vcpus: () => readonly VcpuThread[]) {
    this.ram = ram;
    this.#vcpus = vcpus;
  }

  registers(vcpu: number): Promise<Registers> {
    return this.#vcpu(vcpu).registers();
  }

  setRegisters(vcpu: number, registers: Registers): Promise<void> {
    return this.#vcpu(vcpu).setRegisters(registers);
  }

  /** The guest physical address that this vCPU's page tables give for a linear one; undefined where nothing is mapped. */
  async translate(vcpu: number, linearAddress: bigint): Promise<number | undefined> {
    const { valid, physicalAddress } = await this.#vcpu(vcpu).translate(linearAddress);
    return valid === 0 ? undefined : Number(physicalAddress);
  }

  /** Sets which breakpoints and steps stop this vCPU (api.rst 4.87); `PcEvents.debugged` is told of them. */
  watch(vcpu: number, debug: GuestDebug): Promise<void> {
    return this.#vcpu(vcpu).watch(debug);
  }

  #vcpu(index: number): VcpuThread {
    const vcpu = this.#vcpus()[index];
    if (vcpu === undefined) throw new MachineError("MACHINE_INVALID", `this machine has no vCPU ${index}`);
    return vcpu;
  }
}
