/**
 * VMDK's sparse extents: a directory of tables of grains ("Virtual Disk Format 5.0", "Hosted Sparse Extent" and
 * "Stream-Optimized Compressed Sparse Extents"). Little-endian; offsets are in sectors.
 */

import { promisify } from "node:util";
import { inflate } from "node:zlib";
import { StorageError } from "../../errors.ts";
import type { Store } from "../../image.ts";
import { checkedPower, checkedSize, refusal, u64 } from "../format.ts";
import type { ImageMap, Run } from "../mapped-image.ts";
import { Pages } from "../pages.ts";

const inflated = promisify(inflate);
const SECTOR = 512;
const HEADER_BYTES = 512;
/** "KDMV". */
const MAGIC = 0x564d444b;
const Field = {
  VERSION: 4,
  FLAGS: 8,
  CAPACITY: 12,
  GRAIN: 20,
  DESCRIPTOR: 28,
  DESCRIPTOR_SECTORS: 36,
  TABLE_ENTRIES: 44,
  DIRECTORY: 56,
  NEWLINES: 73,
  COMPRESSION: 77,
} as const;
const Flag = { NEWLINES: 1 << 0, ZERO_GRAINS: 1 << 2, COMPRESSED: 1 << 16, MARKERS: 1 << 17 } as const;
/** The directory is named by a footer, as a stream's writer learns its place last. */
const DIRECTORY_AT_END = 0xffff_ffff_ffff_ffffn;
/** A grain table's entries that are no places. */
const ABSENT = 0;
const ZERO = 1;
/** A packed grain: u64 of its first sector, u32 of its length, then the deflated bytes. */
const MARKER_BYTES = 12;
const MAX_GRAIN_BYTES = 1 << 20;
/** Unpacked grains that are kept: readers go through them in steps that are smaller. */
const KEPT_GRAINS = 16;

export interface SparseHeader {
  sizeBytes: number;
  grainBytes: number;
  tableEntries: number;
  directoryAt: number;
  zeroGrains: boolean;
  compressed: boolean;
  /** The descriptor that is inside, if one is. */
  descriptor: { at: number; length: number };
}

export function isSparse(start: Buffer): boolean {
  return start.length >= HEADER_BYTES && start.readUInt32LE() === MAGIC;
}

export async function readSparseHeader(store: Store): Promise<SparseHeader> {
  const header = await sectorAt(store, 0);
  if (!isSparse(header)) throw refusal(store, "this is no sparse VMDK");
  if (header.readBigUInt64LE(Field.DIRECTORY) !== DIRECTORY_AT_END) return parse(store, header);
  // The file ends with a footer, which is a header again, and an end-of-stream marker.
  const footer = await sectorAt(store, store.sizeBytes - 2 * SECTOR);
  if (!isSparse(footer) || footer.readBigUInt64LE(Field.DIRECTORY) === DIRECTORY_AT_END) {
    throw refusal(store, "it has no footer: the file is not complete");
  }
  return parse(store, footer);
}

function parse(store: Store, header: Buffer): SparseHeader {
  const version = header.readUInt32LE(Field.VERSION);
  if (version < 1 || version > 3) throw refusal(store, `VMDK version ${version}; 1 to 3 are known`);
  const flags = header.readUInt32LE(Field.FLAGS);
  if ((flags & Flag.NEWLINES) !== 0 && header.toString("latin1", Field.NEWLINES, Field.NEWLINES + 4) !== "\n \r\n") {
    throw refusal(store, "its line ends were changed: it was copied as text");
  }
  const compression = header.readUInt16LE(Field.COMPRESSION);
  const compressed = (flags & Flag.COMPRESSED) !== 0;
  if (compressed && compression !== 1) throw refusal(store, `compression ${compression}; 1 (deflate) is known`);
  const sizeBytes = checkedSize(store, u64(header, Field.CAPACITY) * SECTOR);
  const grainBytes = checkedPower(store, u64(header, Field.GRAIN) * SECTOR, 4096, MAX_GRAIN_BYTES, "VMDK grains");
  const tableEntries = checkedPower(store, header.readUInt32LE(Field.TABLE_ENTRIES), 1, 4096, "VMDK grain tables");
  const descriptor = {
    at: u64(header, Field.DESCRIPTOR) * SECTOR,
    length: u64(header, Field.DESCRIPTOR_SECTORS) * SECTOR,
  };
  return {
    sizeBytes,
    grainBytes,
    tableEntries,
    directoryAt: u64(header, Field.DIRECTORY) * SECTOR,
    zeroGrains: (flags & Flag.ZERO_GRAINS) !== 0,
    compressed,
    descriptor,
  };
}

export class SparseMap implements ImageMap {
  readonly #pages: Pages;
  readonly #header: SparseHeader;
  readonly #kept = new Map<number, Promise<Uint8Array>>();

  constructor(store: Store, header: SparseHeader) {
    this.#pages = new Pages(store);
    this.#header = header;
  }

  async locate(offset: number, length: number): Promise<Run> {
    const { grainBytes, tableEntries, directoryAt, compressed } = this.#header;
    const { store } = this.#pages;
    const tableBytes = grainBytes * tableEntries;
    const table = Math.floor(offset / tableBytes);
    const tableAt = (await this.#pages.bytes(directoryAt + 4 * table, 4)).readUInt32LE() * SECTOR;
    if (tableAt === 0) return { length: Math.min(length, tableBytes - (offset % tableBytes)), kind: "absent" };
    const grain = Math.floor((offset % tableBytes) / grainBytes);
    const skip = offset % grainBytes;
    const run = Math.min(length, grainBytes - skip);
    const entry = (await this.#pages.bytes(tableAt + 4 * grain, 4)).readUInt32LE();
    if (entry === ABSENT) return { length: run, kind: "absent" };
    if (entry === ZERO && this.#header.zeroGrains) return { length: run, kind: "zero" };
    const at = entry * SECTOR;
    if (compressed) return { length: run, kind: "packed", skip, unpack: () => this.#unpack(at) };
    return { length: run, kind: "stored", store, at: at + skip };
  }

  #unpack(at: number): Promise<Uint8Array> {
    const kept = this.#kept.get(at) ?? this.#inflate(at);
    this.#kept.delete(at);
    this.#kept.set(at, kept);
    // A failure is not kept.
    kept.catch(() => this.#kept.delete(at));
    if (this.#kept.size > KEPT_GRAINS) this.#kept.delete(this.#kept.keys().next().value!);
    return kept;
  }

  async #inflate(at: number): Promise<Uint8Array> {
    const { store } = this.#pages;
    const { grainBytes } = this.#header;
    const length = (await this.#pages.bytes(at, MARKER_BYTES)).readUInt32LE(8);
    const damaged = (why: string) => new StorageError("STORAGE_IO", `${store.name} is damaged at ${at}: ${why}`);
    // What does not get smaller gets a little larger: deflate adds less than this.
    if (length > grainBytes + 4096 || at + MARKER_BYTES + length > store.sizeBytes) {
      throw damaged(`a packed grain of ${length} bytes`);
    }
    const packed = Buffer.alloc(length);
    await store.read(at + MARKER_BYTES, [packed]);
    try {
      return await inflated(packed, { maxOutputLength: grainBytes });
    } catch (cause) {
      throw damaged(`a grain does not unpack: ${(cause as Error).message}`);
    }
  }
}

async function sectorAt(store: Store, at: number): Promise<Buffer> {
  const sector = Buffer.alloc(HEADER_BYTES);
  if (at < 0 || at + HEADER_BYTES > store.sizeBytes) throw refusal(store, "the file is too short");
  await store.read(at, [sector]);
  return sector;
}
