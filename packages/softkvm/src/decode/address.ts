/** Memory operands from ModRM, SIB and displacement (Intel SDM vol. 2, 2.1.5 and 2.2.1). */

import { type Operand, SegmentRegister } from "./instruction.ts";

const { SS, DS } = SegmentRegister;

/** 16-bit forms by rm: [base, index]. BX is 3, BP 5, SI 6, DI 7. */
const BASE_16 = [3, 3, 5, 5, 6, 7, 5, 3];
const INDEX_16 = [6, 7, 6, 7, -1, -1, -1, -1];

/**
 * Reads what follows a ModRM byte whose mod is not 3, at `at`, into `out`: its `segment` is the default. Returns the
 * position after it, or -1 when it goes on at `limit`.
 */
export function readAddress(
  bytes: Uint8Array,
  at: number,
  limit: number,
  modrm: number,
  rex: number,
  addressSize: number,
  ripRelative: boolean,
  vsib: boolean,
  out: Operand,
): number {
  const mod = modrm >> 6;
  const rm = modrm & 7;
  let position = at;
  let dispBytes = mod === 1 ? 1 : mod === 2 ? 4 : 0;
  out.index = -1;
  out.scale = 0;
  out.ripRelative = false;
  out.segment = DS;

  if (addressSize === 16) {
    if (mod === 0 && rm === 6) {
      out.base = -1;
      dispBytes = 2;
    } else {
      out.base = BASE_16[rm]!;
      out.index = INDEX_16[rm]!;
      if (dispBytes === 4) dispBytes = 2;
      if (out.base === 5) out.segment = SS;
    }
  } else {
    let base = rm;
    if (rm === 4) {
      if (position >= limit) return -1;
      const sib = bytes[position++]!;
      base = sib & 7;
      // Index 4 means none, unless it is a vector; REX.X makes it r12.
      const index = ((sib >> 3) & 7) | ((rex & 2) << 2);
      if (index !== 4 || vsib) {
        out.index = index;
        out.scale = sib >> 6;
      }
    }
    if (mod === 0 && base === 5) {
      // Looked at before REX.B: with r13, too, there is no base.
      out.base = -1;
      dispBytes = 4;
      out.ripRelative = ripRelative && rm === 5;
    } else {
      out.base = base | ((rex & 1) << 3);
      if (out.base === 4 || out.base === 5) out.segment = SS;
    }
  }

  if (position + dispBytes > limit) return -1;
  out.disp = readSigned(bytes, position, dispBytes);
  out.dispHigh = out.disp >> 31;
  return position + dispBytes;
}

/** The `size` bytes (0, 1, 2 or 4) at `at` as a signed number. */
export function readSigned(bytes: Uint8Array, at: number, size: number): number {
  switch (size) {
    case 0:
      return 0;
    case 1:
      return (bytes[at]! << 24) >> 24;
    case 2:
      return ((bytes[at]! | (bytes[at + 1]! << 8)) << 16) >> 16;
    default:
      return bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
  }
}
