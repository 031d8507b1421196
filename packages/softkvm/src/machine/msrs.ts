/** MSRs of a vCPU: for the monitor, and for the guest's RDMSR and WRMSR with the exits and filters that are set. */

import { ExitReason, KvmError, MsrExitReason } from "@lodge/kvm";
import { State, Vector } from "../cpu/layout.ts";
import { LapicMsr } from "../interrupts/index.ts";
import { GUEST_EXIT } from "../system/faults.ts";
import { MSR_INDICES, readMsr, writeMsr } from "../system/msr.ts";
import type { Processor } from "../system/processor.ts";
import { KvmClock, KvmMsr } from "./kvmclock.ts";
import type { SoftVcpu } from "./vcpu.ts";

/** An access that the monitor answers. */
interface MsrRequest {
  readonly index: number;
  readonly isWrite: boolean;
  readonly data: bigint;
  /** One bit of `MsrExitReason`. */
  readonly reason: number;
}

/** What a vCPU's state consists of: `KVM_GET_MSR_INDEX_LIST`. */
export const STATE_MSRS: readonly number[] = [
  ...MSR_INDICES,
  KvmMsr.WALL_CLOCK,
  KvmMsr.SYSTEM_TIME,
  LapicMsr.TSC_DEADLINE,
];

const PLATFORM_INFO = 0xce;
const ARCH_CAPABILITIES = 0x10a;
const UCODE_REV = 0x8b;
/** IA32_ARCH_CAPABILITIES: not subject to Meltdown, L1TF, MDS, TAA, ... as nothing here speculates. */
const NOT_VULNERABLE = 0x2000167n;

/** MSRs that describe the software processor. */
export const FEATURE_MSRS: ReadonlyMap<number, bigint> = new Map([
  [ARCH_CAPABILITIES, NOT_VULNERABLE],
  [UCODE_REV, 0x100000000n],
]);

export class MsrBank {
  readonly kvmclock: KvmClock;
  request: MsrRequest | undefined;
  readonly #vcpu: SoftVcpu;
  #answer: { request: MsrRequest; data: bigint; refused: boolean } | undefined;

  constructor(vcpu: SoftVcpu) {
    this.#vcpu = vcpu;
    this.kvmclock = new KvmClock(vcpu);
  }

  /** What the guest's TSC is ahead of the machine's. */
  get tscOffset(): bigint {
    return this.#vcpu.core.state.get64(State.tscOffset);
  }
  set tscOffset(value: bigint) {
    this.#vcpu.core.state.set64(State.tscOffset, BigInt.asUintN(64, value));
  }

  readTsc(): bigint {
    return BigInt.asUintN(64, this.#vcpu.vm.clock.ticks() + this.tscOffset);
  }
  writeTsc(value: bigint): void {
    this.tscOffset = value - this.#vcpu.vm.clock.ticks();
    this.kvmclock.update();
  }

  // For the monitor.

  read(index: number): bigint {
    const value = readMsr(this.#vcpu.core.processor, index);
    if (value !== undefined) return value;
    throw new KvmError("KVM_MSR_REFUSED", `MSR 0x${index.toString(16)} does not exist on this processor`);
  }
  write(index: number, data: bigint): void {
    const { interrupts, core } = this.#vcpu;
    // The monitor may change the APIC's mode as no guest can.
    const taken =
      index === LapicMsr.APIC_BASE
        ? interrupts.writeMsr(index, low(data), high(data), true)
        : writeMsr(core.processor, index, BigInt.asUintN(64, data));
    if (taken) return;
    throw new KvmError("KVM_MSR_REFUSED", `MSR 0x${index.toString(16)} does not take 0x${data.toString(16)}`);
  }

  // For the processor: what microcode does not keep.

  readOther(index: number): bigint | undefined {
    const { interrupts } = this.#vcpu;
    if (interrupts.ownsMsr(index) && (this.#vcpu.vm.interrupts.hasLocalApics || index === LapicMsr.TSC_DEADLINE)) {
      const value = interrupts.readMsr(index);
      return value < 0 ? undefined : BigInt(value >>> 0) | (BigInt(interrupts.msrHigh >>> 0) << 32n);
    }
    switch (index) {
      case KvmMsr.WALL_CLOCK:
      case KvmMsr.WALL_CLOCK_OLD:
        return this.kvmclock.wallClock;
      case KvmMsr.SYSTEM_TIME:
      case KvmMsr.SYSTEM_TIME_OLD:
        return this.kvmclock.systemTime;
      case ARCH_CAPABILITIES:
        return NOT_VULNERABLE;
      case PLATFORM_INFO:
        return 0n;
      default:
        return undefined;
    }
  }

  writeOther(index: number, value: bigint): boolean {
    const { interrupts } = this.#vcpu;
    if (interrupts.ownsMsr(index) && (this.#vcpu.vm.interrupts.hasLocalApics || index === LapicMsr.TSC_DEADLINE)) {
      return interrupts.writeMsr(index, low(value), high(value));
    }
    switch (index) {
      case KvmMsr.WALL_CLOCK:
      case KvmMsr.WALL_CLOCK_OLD:
        this.kvmclock.setWallClock(value);
        return true;
      case KvmMsr.SYSTEM_TIME:
      case KvmMsr.SYSTEM_TIME_OLD:
        this.kvmclock.setSystemTime(value);
        return true;
      default:
        return false;
    }
  }

  /** What {@link guestWrite} does where the local APIC takes the value: without bigints, as it ends each interrupt. */
  writeApic(index: number, low: number, high: number): boolean {
    const { interrupts, vm } = this.#vcpu;
    // What moves the APIC's page changes more.
    if (!vm.interrupts.hasLocalApics || !interrupts.ownsMsr(index) || index === LapicMsr.APIC_BASE) return false;
    return vm.record.allowsMsr(index, true) && interrupts.writeMsr(index, low, high);
  }

  // For the guest.

  guestRead(cpu: Processor): void {
    cpu.requireRing0();
    const index = this.#index(cpu);
    const answered = this.#takeAnswer(index, false);
    if (answered !== undefined) {
      if (answered.refused) cpu.generalProtection();
      this.#set(cpu, answered.data);
      return;
    }
    const { record } = this.#vcpu.vm;
    if (!record.allowsMsr(index, false)) this.#refuse(cpu, index, false, 0n, MsrExitReason.FILTER);
    const value = readMsr(cpu, index);
    if (value === undefined) this.#refuse(cpu, index, false, 0n, MsrExitReason.UNKNOWN);
    this.#set(cpu, value);
  }

  guestWrite(cpu: Processor): void {
    cpu.requireRing0();
    const index = this.#index(cpu);
    const data = (cpu.state.gpr(0) & 0xffffffffn) | ((cpu.state.gpr(2) & 0xffffffffn) << 32n);
    const answered = this.#takeAnswer(index, true);
    if (answered !== undefined) {
      if (answered.refused) cpu.generalProtection();
      return;
    }
    const { record } = this.#vcpu.vm;
    if (!record.allowsMsr(index, true)) this.#refuse(cpu, index, true, data, MsrExitReason.FILTER);
    if (writeMsr(cpu, index, data)) return;
    const known = readMsr(cpu, index) !== undefined;
    this.#refuse(cpu, index, true, data, known ? MsrExitReason.INVAL : MsrExitReason.UNKNOWN);
  }

  // Requests to the monitor.

  get replaying(): boolean {
    return this.#answer !== undefined;
  }
  takeAnswer(data: bigint, refused: boolean): void {
    if (this.request === undefined) return;
    this.#answer = { request: this.request, data, refused };
    this.request = undefined;
  }
  forgetRequest(): void {
    this.request = undefined;
    this.#answer = undefined;
  }
  exitOfRequest(): ExitReason | undefined {
    if (this.request === undefined) return undefined;
    return this.request.isWrite ? ExitReason.X86_WRMSR : ExitReason.X86_RDMSR;
  }

  #refuse(cpu: Processor, index: number, isWrite: boolean, data: bigint, reason: number): never {
    if (!(this.#vcpu.vm.record.msrExits & reason)) cpu.fault(Vector.GP);
    this.request = { index, isWrite, data, reason };
    throw GUEST_EXIT;
  }

  #takeAnswer(index: number, isWrite: boolean): { data: bigint; refused: boolean } | undefined {
    const answer = this.#answer;
    this.#answer = undefined;
    return answer !== undefined && answer.request.index === index && answer.request.isWrite === isWrite
      ? answer
      : undefined;
  }

  #index(cpu: Processor): number {
    return Number(cpu.state.gpr(1) & 0xffffffffn);
  }
  #set(cpu: Processor, value: bigint): void {
    cpu.state.setGpr(0, value & 0xffffffffn);
    cpu.state.setGpr(2, (value >> 32n) & 0xffffffffn);
  }
}

const low = (value: bigint) => Number(value & 0xffffffffn);
const high = (value: bigint) => Number((value >> 32n) & 0xffffffffn);
