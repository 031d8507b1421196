/** A machine as the debugger's target: what KVM_SET_GUEST_DEBUG offers (api.rst 4.87), as GDB wants it. */

import { type GuestDebug, GuestDebugControl } from "@lodge/kvm";
import type { DebugExit, Pc } from "@lodge/machine";
import type { GuestRegisters } from "./registers.ts";
import type { Breakpoint, DebugStop, DebugTarget } from "./target.ts";

const { ENABLE, SINGLESTEP, USE_SW_BP, USE_HW_BP } = GuestDebugControl;
const BREAKPOINT_EXCEPTION = 3;
const INT3 = 0xcc;
const PAGE = 4096;
/** DR0 to DR3. */
const DEBUG_REGISTERS = 4;
/** DR7's R/W field (Intel SDM vol. 3, 17.2.4): what a debug register waits for. */
const CONDITIONS = { execute: 0, write: 1, access: 3 } as const;
/** Its LEN field by bytes. */
const LENGTHS: Readonly<Record<number, number>> = { 1: 0, 2: 1, 4: 3, 8: 2 };

export class MachineTarget implements DebugTarget {
  readonly vcpus: readonly number[];
  onStop: (stop: DebugStop) => void = () => {};
  #machine: Pc;
  #breakpoints: readonly Breakpoint[] = [];
  /** What the int3s stand in the place of, by guest physical address. */
  #replaced = new Map<number, number>();

  constructor(machine: Pc) {
    this.#machine = machine;
    this.vcpus = Array.from({ length: machine.description.cpus.count }, (_, index) => index);
  }

  /** The machine was reset, and this is the PC that goes on. Its memory is new: int3s are gone, debug registers are set again. */
  async follow(machine: Pc): Promise<void> {
    this.#machine = machine;
    this.#replaced.clear();
    for (const vcpu of this.vcpus) await machine.debugging.watch(vcpu, this.#guestDebug(false));
  }

  /** The machine has come to its end. */
  ended(): void {
    this.onStop({ vcpu: 0, reason: "ended" });
  }

  /** Takes what `PcEvents.debugged` tells. */
  debugged({ vcpu, exception, pc, dr6 }: DebugExit): void {
    if (exception === BREAKPOINT_EXCEPTION) {
      const breakpoint = this.#breakpoints.find(({ kind, address }) => kind === "software" && address === pc);
      this.onStop({ vcpu, reason: "breakpoint", ...(breakpoint && { breakpoint }) });
      return;
    }
    const breakpoint = this.#watched().find((_, index) => (dr6 >> BigInt(index)) & 1n);
    if (breakpoint === undefined) this.onStop({ vcpu, reason: "step" });
    else this.onStop({ vcpu, reason: "breakpoint", breakpoint });
  }

  async pause(): Promise<void> {
    if (this.#machine.state === "running") await this.#machine.pause();
  }

  async resume(step?: number): Promise<void> {
    for (const vcpu of this.vcpus) await this.#machine.debugging.watch(vcpu, this.#guestDebug(vcpu === step));
    this.#machine.start(step);
  }

  interrupt(): void {
    // One that stops by itself meanwhile tells so.
    if (this.#machine.state !== "running") return;
    void this.#machine.pause().then(() => {
      if (this.#machine.state === "paused") this.onStop({ vcpu: this.vcpus[0]!, reason: "interrupt" });
    });
  }

  registers(vcpu: number): Promise<GuestRegisters> {
    return this.#machine.debugging.registers(vcpu);
  }

  setRegisters(vcpu: number, registers: GuestRegisters): Promise<void> {
    return this.#machine.debugging.setRegisters(vcpu, registers);
  }

  async readMemory(vcpu: number, address: bigint, length: number): Promise<Buffer> {
    const parts: Uint8Array[] = [];
    for await (const { bytes, at } of this.#pieces(vcpu, address, length)) {
      if (bytes === undefined) break;
      const part = bytes.slice();
      for (const [gpa, original] of this.#replaced) {
        if (gpa >= at && gpa < at + part.length) part[gpa - at] = original;
      }
      parts.push(part);
    }
    return Buffer.concat(parts);
  }

  async writeMemory(vcpu: number, address: bigint, data: Buffer): Promise<boolean> {
    const pieces: { bytes: Uint8Array; at: number }[] = [];
    for await (const { bytes, at } of this.#pieces(vcpu, address, data.length)) {
      if (bytes === undefined) return false;
      pieces.push({ bytes, at });
    }
    let from = 0;
    for (const { bytes, at } of pieces) {
      bytes.set(data.subarray(from, from + bytes.length));
      this.#machine.debugging.ram.written(at, bytes.length);
      from += bytes.length;
    }
    return true;
  }

  async setBreakpoints(breakpoints: readonly Breakpoint[]): Promise<boolean> {
    const watched = breakpoints.filter(({ kind }) => kind !== "software");
    if (watched.length > DEBUG_REGISTERS) return false;
    if (watched.some(({ address, length }) => LENGTHS[length] === undefined || address % BigInt(length) !== 0n))
      return false;
    const places: number[] = [];
    for (const { kind, address } of breakpoints) {
      if (kind !== "software") continue;
      const gpa = await this.#machine.debugging.translate(this.vcpus[0]!, address);
      if (gpa === undefined || this.#machine.debugging.ram.slice(gpa, 1) === undefined) return false;
      places.push(gpa);
    }
    for (const [gpa, original] of this.#replaced) this.#poke(gpa, original);
    this.#replaced = new Map(places.map((gpa) => [gpa, this.#poke(gpa, INT3)]));
    this.#breakpoints = breakpoints;
    for (const vcpu of this.vcpus) await this.#machine.debugging.watch(vcpu, this.#guestDebug(false));
    return true;
  }

  /** Writes a byte of RAM; returns what stood there. */
  #poke(gpa: number, value: number): number {
    const { ram } = this.#machine.debugging;
    const byte = ram.slice(gpa, 1)!;
    const before = byte[0]!;
    byte[0] = value;
    ram.written(gpa, 1);
    return before;
  }

  #watched(): Breakpoint[] {
    return this.#breakpoints.filter(({ kind }) => kind !== "software");
  }

  #guestDebug(step: boolean): GuestDebug {
    const debugreg = Array.from({ length: 8 }, () => 0n);
    let dr7 = 0n;
    for (const [index, { kind, address, length }] of this.#watched().entries()) {
      debugreg[index] = address;
      const field = CONDITIONS[kind as keyof typeof CONDITIONS] | (LENGTHS[length]! << 2);
      dr7 |= (2n << BigInt(index * 2)) | (BigInt(field) << BigInt(16 + index * 4));
    }
    debugreg[7] = dr7;
    const software = this.#breakpoints.length > this.#watched().length;
    const control = (step ? SINGLESTEP : 0) | (software ? USE_SW_BP : 0) | (dr7 !== 0n ? USE_HW_BP : 0);
    return { control: control === 0 ? 0 : control | ENABLE, debugreg };
  }

  /** Guest memory in pieces that lie in one page each; `bytes` is undefined where none is. */
  async *#pieces(vcpu: number, address: bigint, length: number) {
    const { debugging } = this.#machine;
    for (let done = 0; done < length; ) {
      const linear = BigInt.asUintN(64, address + BigInt(done));
      const size = Math.min(length - done, PAGE - Number(linear % BigInt(PAGE)));
      const at = await debugging.translate(vcpu, linear);
      yield { at: at ?? 0, bytes: at === undefined ? undefined : debugging.ram.slice(at, size) };
      done += size;
    }
  }
}
