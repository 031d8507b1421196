/**
 * The x86 branch filter of xz, undone: a packer makes the targets of CALL and JMP absolute, so that calls of one function
 * look alike (the xz embedded sources describe it; the algorithm is Igor Pavlov's BCJ). It looks only at displacements
 * whose top byte is 0x00 or 0xff, and remembers in `mask` which of the bytes before were taken for opcodes too.
 */

const MASK_ALLOWED = [true, true, true, false, true, false, false, false];
const MASK_BIT = [0, 1, 2, 2, 3, 3, 3, 3];

const isTop = (byte: number) => byte === 0 || byte === 0xff;

/** In place; `code` begins where the filter's count began. */
export function undoX86Filter(code: Uint8Array): void {
  const end = code.length - 4;
  let previous = -1;
  let mask = 0;
  for (let at = 0; at < end; at++) {
    if ((code[at]! & 0xfe) !== 0xe8) continue;
    const gap = at - previous;
    if (gap > 3 || previous < 0) mask = 0;
    else {
      mask = (mask << (gap - 1)) & 7;
      if (mask !== 0) {
        const byte = code[at + 4 - MASK_BIT[mask]!]!;
        if (!MASK_ALLOWED[mask] || isTop(byte)) {
          previous = at;
          mask = (mask << 1) | 1;
          continue;
        }
      }
    }
    previous = at;
    if (!isTop(code[at + 4]!)) {
      mask = (mask << 1) | 1;
      continue;
    }
    let source = code[at + 1]! | (code[at + 2]! << 8) | (code[at + 3]! << 16) | (code[at + 4]! << 24);
    let target: number;
    for (;;) {
      target = (source - (at + 5)) | 0;
      if (mask === 0) break;
      const bit = MASK_BIT[mask]! * 8;
      const byte = (target >>> (24 - bit)) & 0xff;
      if (!isTop(byte)) break;
      source = target ^ ((1 << (32 - bit)) - 1);
    }
    // The top byte is bit 24's sign again.
    target &= 0x01ffffff;
    target |= -(target & 0x01000000);
    code[at + 1] = target;
    code[at + 2] = target >>> 8;
    code[at + 3] = target >>> 16;
    code[at + 4] = target >>> 24;
    at += 4;
    mask = 0;
  }
}
