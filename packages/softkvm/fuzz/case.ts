/** One case: code, and the state that it begins in. */

import type { CodeSize } from "../src/decode/instruction.ts";
import { CODE_BYTES, Control, DATA_BYTES, exitOf, linearOf, Selectors, SlotPages, XSAVE_BYTES } from "./layout.ts";
import { POOL } from "./random.ts";

export interface FuzzCase {
  /** Addresses depend on it. */
  slot: number;
  bits: CodeSize;
  /** What lies in the code pages, at offsets from their start; the rest is int3. The first piece is entered. */
  code: { at: number; bytes: Uint8Array<ArrayBuffer> }[];
  gpr: bigint[];
  flags: number;
  fsBase: bigint;
  gsBase: bigint;
  /** Initial x87, SSE and AVX state as an XSAVE area. */
  xsave: Uint8Array;
  /** What data pages hold: {@link POOL} from here on, over and over, with these 64-bit words changed. */
  data: { from: number; words: { at: number; value: bigint }[] };
}

export const INT3 = 0xcc;

/** Offsets in an XSAVE area (Intel SDM vol. 1, 13.4). */
export const Xsave = {
  fcw: 0,
  fsw: 2,
  ftw: 4,
  mxcsr: 24,
  mxcsrMask: 28,
  st: 32,
  xmm: 160,
  components: 512,
  ymmHigh: 576,
} as const;

/** The state after FNINIT, with MXCSR at its default and all components loaded. */
export function initialXsave(): Uint8Array {
  const area = new Uint8Array(XSAVE_BYTES);
  const view = new DataView(area.buffer);
  view.setUint16(Xsave.fcw, 0x37f, true);
  view.setUint32(Xsave.mxcsr, 0x1f80, true);
  view.setUint32(Xsave.components, 7, true);
  return area;
}

export const codeAddress = (slot: number, at: number) => linearOf(slot, SlotPages.code.linear + at);

/** A jump to an exit of the slot. */
export function exitCode(slot: number, bits: CodeSize, exit: number, at: number): Uint8Array<ArrayBuffer> {
  const target = exitOf(slot, exit);
  if (bits === 64) {
    const bytes = new Uint8Array(5);
    bytes[0] = 0xe9;
    new DataView(bytes.buffer).setInt32(1, target - (codeAddress(slot, at) + 5), true);
    return bytes;
  }
  const wide = bits === 16 ? [0x66] : [];
  const bytes = new Uint8Array(wide.length + 7);
  bytes.set([...wide, 0xea]);
  const view = new DataView(bytes.buffer, wide.length);
  view.setUint32(1, target, true);
  view.setUint16(5, Selectors.code64, true);
  return bytes;
}

/** Fills a slot's data pages. */
export function writeData(memory: Uint8Array, start: number, { from, words }: FuzzCase["data"]): void {
  const first = Math.min(DATA_BYTES, POOL.length - from);
  memory.set(POOL.subarray(from, from + first), start);
  if (first < DATA_BYTES) memory.set(POOL.subarray(0, DATA_BYTES - first), start + first);
  if (words.length === 0) return;
  const view = new DataView(memory.buffer, memory.byteOffset + start, DATA_BYTES);
  for (const { at, value } of words) view.setBigUint64(at, value, true);
}

/** Puts a case's code into a slot's code pages, which hold int3 elsewhere. Returns the range written, for erasing. */
export function writeCode(memory: Uint8Array, start: number, code: FuzzCase["code"]): { from: number; to: number } {
  let from = CODE_BYTES;
  let to = 0;
  for (const { at, bytes } of code) {
    memory.set(bytes.length > CODE_BYTES - at ? bytes.subarray(0, CODE_BYTES - at) : bytes, start + at);
    from = Math.min(from, at);
    to = Math.max(to, Math.min(CODE_BYTES, at + bytes.length));
  }
  return { from, to };
}

/** Writes the registers into a slot's control page. */
export function writeRegisters(view: DataView, control: number, fuzzCase: FuzzCase): void {
  for (let reg = 0; reg < 16; reg++) view.setBigUint64(control + Control.gpr + reg * 8, fuzzCase.gpr[reg]!, true);
  view.setUint32(control + Control.flags, fuzzCase.flags, true);
  view.setBigUint64(control + Control.fsBase, fuzzCase.fsBase, true);
  view.setBigUint64(control + Control.gsBase, fuzzCase.gsBase, true);
}
