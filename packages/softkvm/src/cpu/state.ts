/** A vCPU's state for the code that is written in TypeScript: the cold side of the processor. */

import { Aux, NO_FAULT, State, Vector } from "./layout.ts";

/** RFLAGS bits (Intel SDM vol. 1, 3.4.3). */
export const Flag = {
  CF: 0x1,
  ONE: 0x2,
  PF: 0x4,
  AF: 0x10,
  ZF: 0x40,
  SF: 0x80,
  TF: 0x100,
  IF: 0x200,
  DF: 0x400,
  OF: 0x800,
  IOPL: 0x3000,
  NT: 0x4000,
  RF: 0x10000,
  VM: 0x20000,
  AC: 0x40000,
  VIF: 0x80000,
  VIP: 0x100000,
  ID: 0x200000,
} as const;

const ARITHMETIC = Flag.CF | Flag.PF | Flag.AF | Flag.ZF | Flag.SF | Flag.OF;
const REST =
  Flag.TF | Flag.IF | Flag.DF | Flag.IOPL | Flag.NT | Flag.RF | Flag.VM | Flag.AC | Flag.VIF | Flag.VIP | Flag.ID;

export class CpuState {
  /** All of linear memory; offsets are from its start. */
  readonly view: DataView;
  /** Where this vCPU's state begins. */
  readonly base: number;

  constructor(buffer: ArrayBufferLike, base: number) {
    this.view = new DataView(buffer);
    this.base = base;
  }

  get32(offset: number): number {
    return this.view.getUint32(this.base + offset, true);
  }
  set32(offset: number, value: number): void {
    this.view.setUint32(this.base + offset, value, true);
  }
  get64(offset: number): bigint {
    return this.view.getBigUint64(this.base + offset, true);
  }
  set64(offset: number, value: bigint): void {
    this.view.setBigUint64(this.base + offset, value, true);
  }

  /** 64 bits with a sign as a number: exact below 2^53. */
  number(offset: number): number {
    const { view, base } = this;
    return view.getInt32(base + offset + 4, true) * 2 ** 32 + view.getUint32(base + offset, true);
  }
  copy64(to: number, from: number): void {
    const { view, base } = this;
    // Halves, as a bigint would be made in between.
    view.setInt32(base + to, view.getInt32(base + from, true), true);
    view.setInt32(base + to + 4, view.getInt32(base + from + 4, true), true);
  }

  /** A general register by its encoding, all 64 bits. */
  gpr(index: number): bigint {
    return this.get64(State.gpr + index * 8);
  }
  setGpr(index: number, value: bigint): void {
    this.set64(State.gpr + index * 8, value);
  }

  /** RFLAGS as the guest sees it. */
  get rflags(): number {
    const low = this.get32(State.flagResult);
    const high = this.get32(State.flagResult + 4);
    const aux = this.get32(State.flagAux);
    const carry = aux >>> 31;
    let flags = this.get32(State.flagRest) | Flag.ONE;
    if (carry !== 0) flags |= Flag.CF;
    if (evenParity((low & 0xff) ^ ((aux >>> Aux.PARITY_SHIFT) & 0xff))) flags |= Flag.PF;
    if (aux & Aux.ADJUST) flags |= Flag.AF;
    if ((low | high) === 0) flags |= Flag.ZF;
    if (high >>> 31 !== (aux & Aux.SIGN_DELTA)) flags |= Flag.SF;
    if (((aux >>> 30) & 1) !== carry) flags |= Flag.OF;
    return flags;
  }

  set rflags(flags: number) {
    // A result that is zero or one, then the deltas that make sign and parity come out right.
    const zero = (flags & Flag.ZF) !== 0;
    const resultParity = zero; // 0 has even parity, 1 odd.
    let aux = 0;
    if (flags & Flag.CF) aux |= Aux.CARRY;
    if (((flags & Flag.OF) !== 0) !== ((flags & Flag.CF) !== 0)) aux |= Aux.PARTIAL;
    if (flags & Flag.AF) aux |= Aux.ADJUST;
    if (flags & Flag.SF) aux |= Aux.SIGN_DELTA;
    if (((flags & Flag.PF) !== 0) !== resultParity) aux |= 1 << Aux.PARITY_SHIFT;
    this.set32(State.flagResult, zero ? 0 : 1);
    this.set32(State.flagResult + 4, 0);
    this.set32(State.flagAux, aux);
    this.set32(State.flagRest, flags & REST);
  }

  /** The arithmetic flags' mask and the others', as {@link rflags} keeps them apart. */
  static readonly arithmetic = ARITHMETIC;
  static readonly rest = REST;

  get cpl(): number {
    return this.get32(State.cpl);
  }

  /** Records an exception for the instruction that runs; the first one stays. */
  raise(vector: number, error = 0): void {
    if (this.faulted) return;
    this.set32(State.faultVector, vector);
    this.set32(State.faultError, error);
  }
  /** The same for a page fault. `va`: as mmu/access.ts has linear addresses. */
  raisePageFault(error: number, va: number): void {
    if (this.faulted) return;
    this.raise(Vector.PF, error);
    this.set32(State.faultAddress, va);
    this.set32(State.faultAddress + 4, Math.floor(va / 2 ** 32));
  }

  get faulted(): boolean {
    return this.view.getInt32(this.base + State.faultVector, true) !== NO_FAULT;
  }
}

function evenParity(byte: number): boolean {
  return ((0x6996 >> ((byte ^ (byte >> 4)) & 0xf)) & 1) === 0;
}
