/**
 * A table from where code of ring 3 lies in memory to its records, for compiled code: where the jump cache has forgotten an
 * address with its address space, a walk and this table find it again without TypeScript. Nothing here depends on
 * translations; a block is in it until it is no more, or another one takes its place.
 */

import { Mode, State } from "../cpu/layout.ts";
import type { CpuState } from "../cpu/state.ts";
import type { I32, Local } from "../wasm/expr.ts";
import { c32, i32 } from "../wasm/ops.ts";

export const Place = { host: 0, mode: 4, record: 8, entrySize: 16, entries: 32768, shift: 12 } as const;
const { entries, entrySize, shift } = Place;
export const PLACES_BYTES = entries * entrySize;

/** 64-bit code of ring 3: what the table is for. */
const USER_64 = Mode.USER | 2;
export function hasPlace(mode: number): boolean {
  return (mode & (Mode.USER | Mode.BITS)) === USER_64;
}

/** The same in compiled code. */
export function emitHasPlace(mode: I32): I32 {
  return i32.eq(i32.and(mode, c32(Mode.USER | Mode.BITS)), c32(USER_64));
}

/** Where the entry of a place is, in compiled code. */
export function placeEntry(base: number, host: Local<"i32">): I32 {
  const number = i32.and(i32.xor(host, i32.shr_u(host, c32(shift))), c32(entries - 1));
  return i32.add(i32.load(c32(base + State.places)), i32.shl(number, c32(Math.log2(entrySize))));
}

export class Places {
  readonly #view: DataView;
  readonly #at: number;

  /** Takes `PLACES_BYTES` of linear memory. */
  constructor(state: CpuState, at: number) {
    this.#view = state.view;
    this.#at = at;
    state.set32(State.places, at);
  }

  set(host: number, mode: number, record: number): void {
    const at = this.#entryOf(host);
    this.#view.setUint32(at + Place.host, host, true);
    this.#view.setUint32(at + Place.mode, mode, true);
    this.#view.setUint32(at + Place.record, record, true);
  }

  /** This record is no more. */
  remove(host: number, record: number): void {
    const at = this.#entryOf(host);
    if (this.#view.getUint32(at + Place.record, true) === record) this.#view.setUint32(at + Place.record, 0, true);
  }

  clear(): void {
    new Uint8Array(this.#view.buffer, this.#at, PLACES_BYTES).fill(0);
  }

  #entryOf(host: number): number {
    return this.#at + ((host ^ (host >>> shift)) & (entries - 1)) * entrySize;
  }
}
