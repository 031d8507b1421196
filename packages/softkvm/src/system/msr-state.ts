/**
 * The model-specific registers that microcode keeps (Intel SDM vol. 4). FS and GS bases are the segments', EFER is in
 * the vCPU's state; what the interrupt controller and clocks keep is asked by hooks.
 */

import { State } from "../cpu/layout.ts";
import type { CpuState } from "../cpu/state.ts";

/** MTRRs (Intel SDM vol. 3, 12.11): as many variable ranges as KVM has. */
export const MTRR_RANGES = 8;

export class MsrState {
  cstar = 0n;
  sysenterCs = 0n;
  sysenterEsp = 0n;
  sysenterEip = 0n;
  tscAdjust = 0n;
  pat = 0x0007040600070406n;
  miscEnable = 1n;
  mtrrDefType = 0n;
  readonly mtrrFixed = new BigUint64Array(11);
  /** Base and mask of each variable range. */
  readonly mtrrVariable = new BigUint64Array(MTRR_RANGES * 2);
  mcgStatus = 0n;
  mcgCtl = 0n;
  /** CTL, STATUS, ADDR and MISC of each bank. */
  readonly mcBanks = new BigUint64Array(MC_BANKS * 4).map((_, index) => (index % 4 === 0 ? ~0n : 0n));
  specCtrl = 0n;
  xss = 0n;
  debugCtl = 0n;
  readonly #state: CpuState;

  constructor(state: CpuState) {
    this.#state = state;
  }

  // Those that compiled code reads are in the vCPU's state.

  get star(): bigint {
    return this.#state.get64(State.star);
  }
  set star(value: bigint) {
    this.#state.set64(State.star, value);
  }
  get lstar(): bigint {
    return this.#state.get64(State.lstar);
  }
  set lstar(value: bigint) {
    this.#state.set64(State.lstar, value);
  }
  /** IA32_FMASK. */
  get sfmask(): bigint {
    return this.#state.get64(State.sfmask);
  }
  set sfmask(value: bigint) {
    this.#state.set64(State.sfmask, value);
  }
  get tscAux(): bigint {
    return this.#state.get64(State.tscAux);
  }
  set tscAux(value: bigint) {
    this.#state.set64(State.tscAux, value);
  }
  get kernelGsBase(): bigint {
    return this.#state.get64(State.kernelGsBase);
  }
  set kernelGsBase(value: bigint) {
    this.#state.set64(State.kernelGsBase, value);
  }

  /** As after power-up. */
  reset(): void {
    const fresh = new MsrState(this.#state);
    this.mtrrFixed.set(fresh.mtrrFixed);
    this.mtrrVariable.set(fresh.mtrrVariable);
    this.mcBanks.set(fresh.mcBanks);
    const { mtrrFixed, mtrrVariable, mcBanks } = this;
    Object.assign(this, fresh, { mtrrFixed, mtrrVariable, mcBanks });
    const { star, lstar, sfmask, kernelGsBase, tscAux } = State;
    for (const field of [star, lstar, sfmask, kernelGsBase, tscAux]) this.#state.set64(field, 0n);
  }
}

/** Machine check banks, as KVM gives a guest by default. */
export const MC_BANKS = 32;
