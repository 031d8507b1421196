/** Hypercalls (Documentation/virt/kvm/x86/hypercalls.rst): those that the monitor asked for are exits, no other is known. */

import { ExitReason } from "@lodge/kvm";
import { Mode, State } from "../cpu/layout.ts";
import type { CpuState } from "../cpu/state.ts";
import { GUEST_EXIT } from "../system/faults.ts";
import type { Processor } from "../system/processor.ts";
import type { SoftVcpu } from "./vcpu.ts";

/** KVM_HC_MAP_GPA_RANGE: guest physical address, pages, attributes. */
const MAP_GPA_RANGE = 12;
/** What `KVM_CAP_EXIT_HYPERCALL` can be asked for, by number. */
export const EXITING_HYPERCALLS = 1 << MAP_GPA_RANGE;

/** Errors, as the guest gets them: KVM_EPERM, KVM_EINVAL, KVM_ENOSYS. */
const EPERM = -1n;
const EINVAL = -22n;
const ENOSYS = -1000n;

const PAGE = 4096n;

export interface HypercallRequest {
  readonly number: number;
  readonly arguments: readonly bigint[];
  readonly is64Bit: boolean;
}

export class Hypercalls {
  /** What the monitor is asked. */
  request: HypercallRequest | undefined;
  readonly #vcpu: SoftVcpu;
  #answer: bigint | undefined;

  constructor(vcpu: SoftVcpu) {
    this.#vcpu = vcpu;
  }

  /** VMCALL or VMMCALL: RAX says which, and gets the result. Leaves with `GUEST_EXIT` where the monitor is asked. */
  execute({ state, cpl }: Processor): void {
    const is64Bit = (state.get32(State.mode) & Mode.BITS) === 2;
    const answer = this.#answer;
    this.#answer = undefined;
    const result = answer ?? this.#perform(state, cpl, is64Bit);
    state.setGpr(0, BigInt.asUintN(is64Bit ? 64 : 32, result));
  }

  get replaying(): boolean {
    return this.#answer !== undefined;
  }
  takeAnswer(result: bigint): void {
    if (this.request === undefined) return;
    this.#answer = result;
    this.request = undefined;
  }
  forgetRequest(): void {
    this.request = undefined;
    this.#answer = undefined;
  }
  exitOfRequest(): ExitReason | undefined {
    return this.request === undefined ? undefined : ExitReason.HYPERCALL;
  }

  #perform(state: CpuState, cpl: number, is64Bit: boolean): bigint {
    if (cpl !== 0) return EPERM;
    const register = (index: number) => BigInt.asUintN(is64Bit ? 64 : 32, state.gpr(index));
    const [rax, rcx, rdx, rbx] = [0, 1, 2, 3].map(register) as [bigint, bigint, bigint, bigint];
    const asked = this.#vcpu.vm.record.hypercallExits & EXITING_HYPERCALLS;
    if (rax !== BigInt(MAP_GPA_RANGE) || asked === 0) return ENOSYS;
    if (rbx % PAGE !== 0n || rcx === 0n || rbx / PAGE + rcx > 2n ** 52n) return EINVAL;
    this.request = { number: MAP_GPA_RANGE, arguments: [rbx, rcx, rdx], is64Bit };
    throw GUEST_EXIT;
  }
}
