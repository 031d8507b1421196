/** Hyper-V's VHDX. Left out: differencing disks, which need their parent. */

import { StorageError } from "../../errors.ts";
import type { Store } from "../../image.ts";
import { head, type OpenFormat, refusal } from "../format.ts";
import { type ImageMap, MappedImage, type Run } from "../mapped-image.ts";
import { Pages } from "../pages.ts";
import { currentHeader, isVhdx, type Parameters, type ReadAt, readMetadata, readRegions } from "./layout.ts";
import { replayed } from "./log.ts";

const MIB = 1 << 20;
/** 2.5.1.1: states of a payload block. */
const State = { NOT_PRESENT: 0, UNDEFINED: 1, ZERO: 2, UNMAPPED: 3, FULLY_PRESENT: 6 } as const;

export const openVhdx: OpenFormat = async (store) => {
  if (!isVhdx(await head(store, 8))) throw refusal(store, "this is no VHDX image");
  const header = await currentHeader(store, reader(store));
  // The tables are those after the replay.
  const whole = await replayed(store, header);
  const { bat, metadata } = await readRegions(store, reader(whole));
  const parameters = await readMetadata(store, reader(whole), metadata);
  const map = new VhdxMap(new Pages(whole), bat.at, parameters);
  if (8 * (map.lastEntry + 1) > bat.length)
    throw refusal(store, "its block allocation table is too short for its disk");
  return new MappedImage({ format: "vhdx", name: store.name, sizeBytes: parameters.sizeBytes, map, stores: [store] });
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

  constructor(pages: Pages, batAt: number, { blockBytes, sectorBytes, sizeBytes }: Parameters) {
    this.#pages = pages;
    this.#batAt = batAt;
    this.#blockBytes = blockBytes;
    this.#sizeBytes = sizeBytes;
    this.#chunkRatio = (2 ** 23 * sectorBytes) / blockBytes;
  }

  get lastEntry(): number {
    return this.#entry(Math.floor((this.#sizeBytes - 1) / this.#blockBytes));
  }

  async locate(offset: number, length: number): Promise<Run> {
    const inside = offset % this.#blockBytes;
    const block = (offset - inside) / this.#blockBytes;
    const run = Math.min(length, this.#blockBytes - inside);
    const entry = await this.#pages.bytes(this.#batAt + 8 * this.#entry(block), 8);
    const state = entry.readUInt8() & 7;
    switch (state) {
      case State.NOT_PRESENT:
      case State.UNDEFINED:
        return { length: run, kind: "absent" };
      case State.ZERO:
      case State.UNMAPPED:
        return { length: run, kind: "zero" };
      case State.FULLY_PRESENT: {
        // Bits 20 to 63 are the place in MiB.
        const at = Number(entry.readBigUInt64LE() >> 20n) * MIB + inside;
        return { length: run, kind: "stored", store: this.#pages.store, at };
      }
      default: {
        const where = `${this.#pages.store.name} is damaged: block ${block}`;
        throw new StorageError("STORAGE_IO", `${where} is in state ${state}`);
      }
    }
  }

  #entry(block: number): number {
    return block + Math.floor(block / this.#chunkRatio);
  }
}
