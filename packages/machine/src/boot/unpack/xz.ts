/**
 * The .xz format (the xz file format specification 1.1.0) as far as kernels use it: streams of blocks with the LZMA2 filter, after
 * the x86 branch filter or not. Sizes and index are checked as far as they guard the memory here; the check sums are not
 * verified, as an ELF file that was damaged is found out by its structure or does not run.
 */

import { Lzma2Decoder } from "./lzma2.ts";
import { undoX86Filter } from "./x86-filter.ts";

const STREAM_HEADER = 12;
const Filter = { X86: 4, LZMA2: 0x21 } as const;
/** Bytes of a check by its type (2.1.1.2). */
const CHECK_BYTES = [0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64];
/** What is kept for going back; a hostile file may not ask for more. */
const MAX_DICTIONARY = 128 * 2 ** 20;

/** Unpacks one stream to at most `limit` bytes. Damaged input is a `RangeError`. What follows the stream is left alone. */
export function unpackXz(packed: Uint8Array, limit: number): Uint8Array {
  if (packed.length < STREAM_HEADER) throw new RangeError("xz: cut off in the stream header");
  const checkBytes = CHECK_BYTES[packed[7]! & 15]!;
  const decoder = new Lzma2Decoder(packed, limit);
  let at = STREAM_HEADER;
  for (;;) {
    const headerUnits = packed[at];
    if (headerUnits === undefined) throw new RangeError("xz: cut off before the index");
    // A zero is the index, which comes behind the last block.
    if (headerUnits === 0) return decoder.output();
    const header = readBlockHeader(packed, at);
    const start = decoder.length;
    const dataAt = at + (headerUnits + 1) * 4;
    const dataEnd = decoder.decode(dataAt);
    if (header.x86) undoX86Filter(decoder.from(start));
    // Blocks are padded to four bytes.
    at = dataAt + Math.ceil((dataEnd - dataAt) / 4) * 4 + checkBytes;
  }
}

function readBlockHeader(packed: Uint8Array, start: number): { x86: boolean } {
  const end = start + (packed[start]! + 1) * 4;
  if (end > packed.length) throw new RangeError("xz: cut off in a block header");
  const flags = packed[start + 1]!;
  let at = start + 2;
  const number = (): number => {
    let value = 0;
    for (let shift = 0; shift < 49; shift += 7) {
      if (at >= end) break;
      const byte = packed[at++]!;
      value += (byte & 0x7f) * 2 ** shift;
      if ((byte & 0x80) === 0) return value;
    }
    throw new RangeError("xz: a number in a block header does not end");
  };
  if (flags & 0x40) number();
  if (flags & 0x80) number();
  const filters: number[] = [];
  for (let index = 0; index <= (flags & 3); index++) {
    const id = number();
    const propertyBytes = number();
    if (at + propertyBytes > end) throw new RangeError("xz: a filter's properties leave their header");
    if (id === Filter.LZMA2 && dictionaryBytes(packed[at] ?? 0) > MAX_DICTIONARY) {
      throw new RangeError("xz: a dictionary of more than 128 MiB");
    }
    // An x86 filter may begin its count elsewhere; nobody does.
    if (id === Filter.X86 && propertyBytes > 0) throw new RangeError("xz: an x86 filter with an offset");
    filters.push(id);
    at += propertyBytes;
  }
  const names = filters.join();
  if (names !== `${Filter.LZMA2}` && names !== `${Filter.X86},${Filter.LZMA2}`) {
    throw new RangeError(`xz: filters ${names}, which kernels are not packed with`);
  }
  return { x86: filters.length === 2 };
}

/** 5.3.1. */
function dictionaryBytes(code: number): number {
  return code === 40 ? 2 ** 32 - 1 : (2 | (code & 1)) * 2 ** (Math.floor(code / 2) + 11);
}
