/** Hyper-V's VHDX. */

import { StorageError } from "../../errors.ts";
import type { Store } from "../../image.ts";
import { head, type OpenFormat, refusal } from "../format.ts";
import { type ImageMap, MappedImage, type Run } from "../mapped-image.ts";
import { Pages } from "../pages.ts";
import { equalBits, type HasBit, openParent } from "../parents.ts";
import { currentHeader, isVhdx, type Parameters, type ReadAt, readMetadata, readRegions } from "./layout.ts";
import { replayed } from "./log.ts";

const MIB = 1 << 20;
/** 2.5.1.1: states of a payload block. */
const State = { NOT_PRESENT: 0, UNDEFINED: 1, ZERO: 2, UNMAPPED: 3, FULLY_PRESENT: 6, PARTIALLY_PRESENT: 7 } as const;
/** 2.5.1.2: of a block of the sector bitmap. */
const BITMAP_PRESENT = 6;
/** Bytes of the sector bitmap that are looked at for one run. */
const BITMAP_STEP = 512;

export const openVhdx: OpenFormat = async (store, neighbours) => {
  if (!isVhdx(await head(store, 8))) throw refusal(store, "this is no VHDX image");
  const header = await currentHeader(store, reader(store));
  // The tables are those after the replay.
  const whole = await replayed(store, header);
  const { bat, metadata } = await readRegions(store, reader(whole));
  const parameters = await readMetadata(store, reader(whole), metadata);
  const map = new VhdxMap(new Pages(whole), bat.at, parameters);
  if (8 * (map.lastEntry + 1) > bat.length)
    throw refusal(store, "its block allocation table is too short for its disk");
  const { sizeBytes, parent: locator } = parameters;
  const parent = locator && (await openParent(store, neighbours, locator.paths, locator.linkages));
  const identity = header.dataWriteGuid;
  return new MappedImage({ format: "vhdx", name: store.name, sizeBytes, map, stores: [store], identity, parent });
};

function reader(store: Store): ReadAt {
  return async (at, length) => {
    if (!(at + length <= store.sizeBytes)) throw refusal(store, `the file ends before ${length} bytes at ${at}`);
    const bytes = Buffer.alloc(length);
    await store.read(at, [bytes]);
    return bytes;
  };
}

class VhdxMap implements ImageMap {
  readonly #pages: Pages;
  readonly #batAt: number;
  readonly #blockBytes: number;
  readonly #sizeBytes: number;
  /** 2.5: after so many payload blocks stands the entry of a bitmap, which only differencing disks use. */
  readonly #chunkRatio: number;
  readonly #sectorBytes: number;
  readonly #hasParent: boolean;

  constructor(pages: Pages, batAt: number, { blockBytes, sectorBytes, sizeBytes, parent }: Parameters) {
    this.#sectorBytes = sectorBytes;
    this.#hasParent = parent !== undefined;
    this.#pages = pages;
    this.#batAt = batAt;
    this.#blockBytes = blockBytes;
    this.#sizeBytes = sizeBytes;
    this.#chunkRatio = (2 ** 23 * sectorBytes) / blockBytes;
  }

  get lastEntry(): number {
    const last = Math.floor((this.#sizeBytes - 1) / this.#blockBytes);
    return this.#hasParent ? this.#bitmapEntry(last) : this.#entry(last);
  }

  async locate(offset: number, length: number): Promise<Run> {
    const inside = offset % this.#blockBytes;
    const block = (offset - inside) / this.#blockBytes;
    const run = Math.min(length, this.#blockBytes - inside);
    const entry = await this.#pages.bytes(this.#batAt + 8 * this.#entry(block), 8);
    const state = entry.readUInt8() & 7;
    switch (state) {
      case State.NOT_PRESENT:
        return { length: run, kind: "absent" };
      case State.UNDEFINED:
        // Anything may be read there, but not what a parent had.
        return { length: run, kind: this.#hasParent ? "zero" : "absent" };
      case State.ZERO:
      case State.UNMAPPED:
        return { length: run, kind: "zero" };
      case State.FULLY_PRESENT:
        return { length: run, kind: "stored", store: this.#pages.store, at: placeOf(entry) + inside };
      case State.PARTIALLY_PRESENT: {
        const at = placeOf(entry) + inside;
        const { set, count } = await this.#sectors(block, inside);
        const part = Math.min(run, count * this.#sectorBytes - (inside % this.#sectorBytes));
        return set ? { length: part, kind: "stored", store: this.#pages.store, at } : { length: part, kind: "absent" };
      }
      default:
        throw this.#damaged(block, `is in state ${state}`);
    }
  }

  /** 2.4: which sectors of a block are here and not the parent's, from the one at `inside` on. */
  async #sectors(block: number, inside: number): Promise<{ set: boolean; count: number }> {
    if (!this.#hasParent) throw this.#damaged(block, "is in part a parent's, which it has not");
    const entry = await this.#pages.bytes(this.#batAt + 8 * this.#bitmapEntry(block), 8);
    if ((entry.readUInt8() & 7) !== BITMAP_PRESENT) throw this.#damaged(block, "has no bitmap of its sectors");
    const perBlock = this.#blockBytes / this.#sectorBytes;
    const sector = Math.floor(inside / this.#sectorBytes);
    const bit = (block % this.#chunkRatio) * perBlock + sector;
    const first = Math.floor(bit / 8);
    const bytes = Math.min(BITMAP_STEP, MIB - first);
    const bitmap = await this.#pages.bytes(placeOf(entry) + first, bytes);
    return equalBits(bitmap, bit % 8, Math.min(8 * bytes - (bit % 8), perBlock - sector), lowestFirst);
  }

  #damaged(block: number, why: string): StorageError {
    return new StorageError("STORAGE_IO", `${this.#pages.store.name} is damaged: block ${block} ${why}`);
  }

  /** Of the bitmap that is responsible for a block. */
  #bitmapEntry(block: number): number {
    return (Math.floor(block / this.#chunkRatio) + 1) * (this.#chunkRatio + 1) - 1;
  }

  #entry(block: number): number {
    return block + Math.floor(block / this.#chunkRatio);
  }
}

/** Bits 20 to 63 are the place in MiB. */
function placeOf(entry: Buffer): number {
  return Number(entry.readBigUInt64LE() >> 20n) * MIB;
}

const lowestFirst: HasBit = (bytes, index) => (bytes[index >> 3]! & (1 << (index & 7))) !== 0;
