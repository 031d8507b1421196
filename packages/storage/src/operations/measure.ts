/** How much space a new image will need, as `qemu-img measure` tells it. */

import type { Image } from "../image.ts";
import { BitmapFlag, readBitmapDirectory } from "../qcow2/bitmaps/directory.ts";
import { type CreateQcow2Options, newHeader } from "../qcow2/create.ts";
import { entryBytesOf, type Header } from "../qcow2/header.ts";
import { roundUp } from "../qcow2/layout.ts";
import type { Preallocation } from "../qcow2/preallocate.ts";
import { Qcow2Image } from "../qcow2/qcow2-image.ts";
import { extentsOf } from "./extents.ts";

export interface MeasureOptions extends Omit<CreateQcow2Options, "sizeBytes"> {
  /** Of the new image: `raw` or `qcow2`. */
  format: string;
  preallocation?: Preallocation;
}

export interface Measure {
  /** Bytes of the file with what the source holds, and with all of the disk. */
  required: number;
  fullyAllocated: number;
  /** Bytes more for the source's bitmaps, where it could have some. */
  bitmaps?: number;
}

/** Of an image of this size, or of one with this disk's content. */
export async function measureImage(what: number | Image, options: MeasureOptions): Promise<Measure> {
  const sizeBytes = typeof what === "number" ? what : what.sizeBytes;
  // A raw image has the disk's size, with or without holes.
  if (options.format === "raw") return { required: sizeBytes, fullyAllocated: sizeBytes };
  const header = newHeader({ ...options, sizeBytes });
  const clusterSize = 2 ** header.clusterBits;
  const disk = roundUp(sizeBytes, clusterSize);
  const tables = tableBytes(header, disk);
  const { preallocation = "off" } = options;
  const set = preallocation === "full" || preallocation === "falloc";
  let data = set ? disk : 0;
  // What of the content the backing image has already nobody knows.
  if (typeof what !== "number")
    data = options.backing === undefined && !set ? await dataBytes(what, clusterSize) : disk;
  const bitmaps = header.version === 3 && typeof what !== "number" ? await bitmapBytes(what, clusterSize) : undefined;
  return { required: tables + data, fullyAllocated: tables + disk, ...(bitmaps !== undefined && { bitmaps }) };
}

/** Header, L1 and L2 tables of a disk, and the refcounts of all of it with them. */
function tableBytes(header: Header, disk: number): number {
  const clusterSize = 2 ** header.clusterBits;
  const entryBytes = entryBytesOf(header);
  const l2 = roundUp((disk / clusterSize) * entryBytes, clusterSize);
  const l1 = roundUp((l2 / clusterSize) * 8, clusterSize);
  const counted = (clusterSize + l2 + l1 + disk) / clusterSize;
  const perBlock = (clusterSize * 8) / 2 ** header.refcountOrder;
  let [blocks, table] = [0, 0];
  for (let before = -1; before !== blocks + table; ) {
    before = blocks + table;
    blocks = Math.ceil((counted + before) / perBlock);
    table = Math.ceil((blocks * 8) / clusterSize);
  }
  return clusterSize + l2 + l1 + (blocks + table) * clusterSize;
}

/** Of clusters with something in them. */
async function dataBytes(source: Image, clusterSize: number): Promise<number> {
  let bytes = 0;
  let counted = 0;
  for await (const { start, length, zero, present } of extentsOf(source)) {
    if (zero || !present) continue;
    const from = Math.max(counted, start - (start % clusterSize));
    counted = roundUp(start + length, clusterSize);
    bytes += Math.max(0, counted - from);
  }
  return bytes;
}

async function bitmapBytes(source: Image, clusterSize: number): Promise<number | undefined> {
  if (!(source instanceof Qcow2Image) || source.header.version === 2) return undefined;
  const directory = await readBitmapDirectory(source.metadata.store, source.header);
  let bytes = 0;
  let names = 0;
  for (const { name, flags, granularityBits } of directory?.entries ?? []) {
    if ((flags & BitmapFlag.IN_USE) !== 0) continue;
    const bits = Math.ceil(source.sizeBytes / 2 ** granularityBits);
    const clusters = Math.ceil(roundUp(Math.ceil(bits / 8), 8) / clusterSize);
    bytes += clusters * clusterSize + roundUp(clusters * 8, clusterSize);
    names += roundUp(24 + Buffer.byteLength(name), 8);
  }
  return bytes + roundUp(names, clusterSize);
}
