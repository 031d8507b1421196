/**
 * Accesses that the monitor's devices answer in the middle of an instruction, in place of an exit: `Vcpu.attachDevices`. To all others
 * the vCPU is out of the guest meanwhile, as it would be after an exit, so that a device may ask of the machine what it likes.
 */

import type { NearDevices } from "@lodge/kvm";
import { Budget } from "../cpu/budget.ts";
import type { SoftVcpu } from "./vcpu.ts";

export class NearAccesses {
  devices: NearDevices | undefined;
  readonly #vcpu: SoftVcpu;

  constructor(vcpu: SoftVcpu) {
    this.#vcpu = vcpu;
  }

  /** Undefined: there are no devices. */
  readPort(port: number, size: number): number | undefined {
    const { devices } = this;
    if (devices === undefined) return undefined;
    this.#leave();
    try {
      return devices.readPort(port, size);
    } finally {
      this.#enter(devices);
    }
  }

  writePort(port: number, size: number, value: number): boolean {
    const { devices } = this;
    if (devices === undefined) return false;
    this.#leave();
    try {
      devices.writePort(port, size, value);
    } finally {
      this.#enter(devices);
    }
    return true;
  }

  /** Up to 8 bytes, the lower four first. */
  read(address: number, size: number): bigint | undefined {
    const { devices } = this;
    if (devices === undefined) return undefined;
    this.#leave();
    try {
      const low = devices.readMemory(address, Math.min(size, 4));
      const high = size > 4 ? devices.readMemory(address + 4, size - 4) : 0;
      return BigInt(low >>> 0) | (BigInt(high >>> 0) << 32n);
    } finally {
      this.#enter(devices);
    }
  }

  write(address: number, size: number, value: bigint): boolean {
    const { devices } = this;
    if (devices === undefined) return false;
    this.#leave();
    try {
      devices.writeMemory(address, Math.min(size, 4), Number(value & 0xffffffffn));
      if (size > 4) devices.writeMemory(address + 4, size - 4, Number((value >> 32n) & 0xffffffffn));
    } finally {
      this.#enter(devices);
    }
    return true;
  }

  #leave(): void {
    this.#vcpu.vm.board.leaveGuest(this.#vcpu.slot);
  }

  #enter({ wantStop }: NearDevices): void {
    const vcpu = this.#vcpu;
    const { board } = vcpu.vm;
    board.enterGuest(vcpu.slot);
    vcpu.core.charge(Budget.device);
    if (!wantStop && !board.isAsked(vcpu.slot)) return;
    // Who saw it out of the guest relies on that it looks before it goes on.
    vcpu.attendToMemory();
    if (wantStop) vcpu.page.immediateExit = true;
    vcpu.core.lookSoon();
  }
}
