/** ELF files as kernels come in: what to load where, and their notes (System V ABI, gABI chapters 4 and 5). */

import { viewOf } from "../view.ts";
import { type BootSource, pieceOf } from "./boot-source.ts";
import { kernelError } from "./loader.ts";

export interface ElfSegment {
  readonly fileOffset: number;
  readonly fileBytes: number;
  readonly physicalAddress: number;
  readonly virtualAddress: number;
  readonly memoryBytes: number;
}

export interface Elf {
  readonly bits: 32 | 64;
  readonly entry: number;
  /** What is loaded (PT_LOAD), in the file's order. */
  readonly segments: readonly ElfSegment[];
  /** The notes of one owner and type: their contents. */
  note(owner: string, type: number): Uint8Array | undefined;
}

const MAGIC = 0x464c457f;
const Class = { BITS_32: 1, BITS_64: 2 } as const;
const LITTLE_ENDIAN = 1;
const Machine = { I386: 3, X86_64: 62 } as const;
const SegmentType = { LOAD: 1, NOTE: 4 } as const;
const HEADER_32 = 52;
const HEADER_64 = 64;
const MAX_SEGMENTS = 256;

export function isElf(source: BootSource): boolean {
  return source.sizeBytes >= 4 && viewOf(pieceOf(source, 0, 4)).getUint32(0, true) === MAGIC;
}

/** Reads an ELF file for this processor. Refused with what is wrong in it. */
export function readElf(source: BootSource): Elf {
  const { sizeBytes } = source;
  if (sizeBytes < HEADER_32) throw kernelError("the kernel is an ELF file that ends within its header");
  const head = pieceOf(source, 0, Math.min(sizeBytes, HEADER_64));
  const headData = viewOf(head);
  const machine = headData.getUint16(18, true);
  const bits = head[4] === Class.BITS_64 ? 64 : 32;
  if (head[5] !== LITTLE_ENDIAN || (machine !== Machine.I386 && machine !== Machine.X86_64)) {
    throw kernelError(`the kernel is an ELF file for another processor (e_machine ${machine})`);
  }
  const header = bits === 64 ? HEADER_64 : HEADER_32;
  if (sizeBytes < header) throw kernelError("the kernel is an ELF file that ends within its header");
  const wordOf = (data: DataView, at: number) => (bits === 64 ? number64(data, at) : data.getUint32(at, true));
  const entry = wordOf(headData, 24);
  const tableAt = wordOf(headData, bits === 64 ? 32 : 28);
  const entrySize = headData.getUint16(bits === 64 ? 54 : 42, true);
  const count = headData.getUint16(bits === 64 ? 56 : 44, true);
  const smallest = bits === 64 ? 56 : 32;
  if (count === 0 || count > MAX_SEGMENTS || entrySize < smallest || tableAt + count * entrySize > sizeBytes) {
    throw kernelError(`the kernel is an ELF file without a usable program header table (${count} entries)`);
  }

  const data = viewOf(pieceOf(source, tableAt, count * entrySize));
  const word = (at: number) => wordOf(data, at);
  const segments: ElfSegment[] = [];
  const notes: { readonly offset: number; readonly bytes: number }[] = [];
  for (let index = 0; index < count; index++) {
    const at = index * entrySize;
    const type = data.getUint32(at, true);
    const segment =
      bits === 64
        ? {
            fileOffset: word(at + 8),
            virtualAddress: word(at + 16),
            physicalAddress: word(at + 24),
            fileBytes: word(at + 32),
            memoryBytes: word(at + 40),
          }
        : {
            fileOffset: word(at + 4),
            virtualAddress: word(at + 8),
            physicalAddress: word(at + 12),
            fileBytes: word(at + 16),
            memoryBytes: word(at + 20),
          };
    if (type !== SegmentType.LOAD && type !== SegmentType.NOTE) continue;
    if (segment.fileOffset + segment.fileBytes > sizeBytes) {
      throw kernelError(`the kernel is an ELF file that is cut off: segment ${index} ends behind the file's end`);
    }
    if (type === SegmentType.NOTE) {
      notes.push({ offset: segment.fileOffset, bytes: segment.fileBytes });
    } else if (segment.memoryBytes > 0) {
      if (segment.fileBytes > segment.memoryBytes) {
        throw kernelError(`the kernel is an ELF file whose segment ${index} is larger in the file than in memory`);
      }
      segments.push(segment);
    }
  }
  const areas = () => notes.values().map(({ offset, bytes }) => pieceOf(source, offset, bytes));
  return { bits, entry, segments, note: (owner, type) => findNote(areas(), owner, type) };
}

function findNote(areas: Iterable<Uint8Array>, owner: string, type: number): Uint8Array | undefined {
  for (const area of areas) {
    const data = viewOf(area);
    let at = 0;
    while (at + 12 <= area.length) {
      const nameBytes = data.getUint32(at, true);
      const contentBytes = data.getUint32(at + 4, true);
      const content = at + 12 + align4(nameBytes);
      if (content + contentBytes > area.length) break;
      const name = new TextDecoder("latin1").decode(area.subarray(at + 12, at + 12 + Math.max(0, nameBytes - 1)));
      if (name === owner && data.getUint32(at + 8, true) === type) {
        return area.subarray(content, content + contentBytes);
      }
      at = content + align4(contentBytes);
    }
  }
  return undefined;
}

const align4 = (value: number) => Math.ceil(value / 4) * 4;

function number64(data: DataView, at: number): number {
  return data.getUint32(at, true) + data.getUint32(at + 4, true) * 2 ** 32;
}
