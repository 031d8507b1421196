/** Zstandard: Node unpacks it, but wants to be given the frame alone (RFC 8878, 3.1.1), and the kernel's build appends to it. */

import { zstdDecompressSync } from "node:zlib";

const DESCRIPTOR = 4;
const DICTIONARY_ID_BYTES = [0, 1, 2, 4] as const;
const CONTENT_SIZE_BYTES = [0, 2, 4, 8] as const;
const RLE_BLOCK = 1;
const CHECKSUM_BYTES = 4;

export function unpackZstd(packed: Uint8Array, limit: number): Uint8Array {
  return zstdDecompressSync(packed.subarray(0, frameBytes(packed)), { maxOutputLength: limit });
}

/** How long the first frame is; no longer than the input, whatever that says. */
function frameBytes(packed: Uint8Array): number {
  const descriptor = packed[DESCRIPTOR] ?? 0;
  const singleSegment = (descriptor >> 5) & 1;
  const contentSize = CONTENT_SIZE_BYTES[descriptor >> 6]! || singleSegment;
  let at = DESCRIPTOR + 1 + (1 - singleSegment) + DICTIONARY_ID_BYTES[descriptor & 3]! + contentSize;
  for (let last = false; !last && at + 3 <= packed.length; ) {
    const header = packed[at]! | (packed[at + 1]! << 8) | (packed[at + 2]! << 16);
    last = (header & 1) !== 0;
    at += 3 + (((header >> 1) & 3) === RLE_BLOCK ? 1 : header >> 3);
  }
  return at + (descriptor & 4 ? CHECKSUM_BYTES : 0);
}
