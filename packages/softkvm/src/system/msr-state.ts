/**
 * The model-specific registers that microcode keeps (Intel SDM vol. 4). FS and GS bases are the segments', EFER is in
 * the vCPU's state; what the interrupt controller and clocks keep is asked by hooks.
 */

/** MTRRs (Intel SDM vol. 3, 12.11): as many variable ranges as KVM has. */
export const MTRR_RANGES = 8;

export class MsrState {
  star = 0n;
  lstar = 0n;
  cstar = 0n;
  /** IA32_FMASK. */
  sfmask = 0n;
  kernelGsBase = 0n;
  sysenterCs = 0n;
  sysenterEsp = 0n;
  sysenterEip = 0n;
  tscAux = 0n;
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

  /** As after power-up. */
  reset(): void {
    const fresh = new MsrState();
    this.mtrrFixed.set(fresh.mtrrFixed);
    this.mtrrVariable.set(fresh.mtrrVariable);
    this.mcBanks.set(fresh.mcBanks);
    const { mtrrFixed, mtrrVariable, mcBanks } = this;
    Object.assign(this, fresh, { mtrrFixed, mtrrVariable, mcBanks });
  }
}

/** Machine check banks, as KVM gives a guest by default. */
export const MC_BANKS = 32;
