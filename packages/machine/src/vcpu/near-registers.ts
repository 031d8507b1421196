/**
 * The devices' registers for a processor that asks them without leaving the guest (`Vcpu.attachDevices`): what step.ts does with
 * exits for ports and memory, in the middle of an instruction.
 */

import type { NearDevices } from "@lodge/kvm";
import type { Buses, Stop } from "./step.ts";

export class NearRegisters implements NearDevices {
  readonly #buses: Buses;
  readonly #exits: Float64Array;
  #stop: Stop | undefined;

  /** `exits`: where they are counted. What is answered here would be one elsewhere. */
  constructor(buses: Buses, exits: Float64Array) {
    this.#buses = buses;
    this.#exits = exits;
  }

  get wantStop(): boolean {
    return this.#stop !== undefined;
  }

  /** What a device was told to do with the machine, once. */
  takeStop(): Stop | undefined {
    const stop = this.#stop;
    this.#stop = undefined;
    return stop;
  }

  readPort(port: number, size: number): number {
    const value = this.#buses.ports.read(port, size);
    this.#answered();
    return value;
  }

  writePort(port: number, size: number, value: number): void {
    this.#buses.ports.write(port, size, value);
    this.#answered();
  }

  readMemory(address: number, size: number): number {
    const value = this.#buses.memory.read(address, size);
    this.#answered();
    return value;
  }

  writeMemory(address: number, size: number, value: number): void {
    this.#buses.memory.write(address, size, value);
    this.#answered();
  }

  #answered(): void {
    this.#exits[0]! += 1;
    this.#stop ??= this.#buses.takeRequest();
  }
}
