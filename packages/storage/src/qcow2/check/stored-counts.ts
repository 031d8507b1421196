/** The refcounts that an image has stored. */

import type { Store } from "../../image.ts";
import type { Header } from "../header.ts";
import { getU64, Limit, viewOf } from "../layout.ts";
import { readStored } from "../stored.ts";
import { Counts } from "./counts.ts";

/** Every refcount that is not 0. Blocks that cannot be are left out, as if they counted nothing. */
export async function storedCounts(store: Store, header: Header): Promise<Counts> {
  const clusterSize = 2 ** header.clusterBits;
  const bits = 2 ** header.refcountOrder;
  const perBlock = (clusterSize * 8) / bits;
  const table = new Uint8Array(header.refcountTableClusters * clusterSize);
  await readStored(store, header.refcountTableOffset, table);
  const counts = new Counts(clusterSize, Number.MAX_SAFE_INTEGER);
  const seen = new Set<number>();
  const block = new Uint8Array(clusterSize);
  for (let index = 0; index < table.length / 8; index++) {
    const offset = getU64(viewOf(table), index * 8);
    if (offset === 0 || offset % clusterSize !== 0 || offset >= Limit.OFFSET || offset >= store.sizeBytes) continue;
    if (seen.has(offset)) continue;
    seen.add(offset);
    block.fill(0);
    await readStored(store, offset, block);
    for (let at = 0; at < perBlock; at++) {
      const value = refcountAt(block, at, bits);
      if (value !== 0) counts.set(index * perBlock + at, value);
    }
  }
  return counts;
}

/** The refcount with this index in a block ("Refcounts": below 8 bits the least significant come first). */
export function refcountAt(block: Uint8Array, index: number, bits: number): number {
  if (bits < 8) return (block[(index * bits) >> 3]! >> ((index * bits) & 7)) & (2 ** bits - 1);
  let value = 0;
  for (let at = (index * bits) / 8; at < ((index + 1) * bits) / 8; at++) value = value * 256 + block[at]!;
  return value;
}

export function setRefcountAt(block: Uint8Array, index: number, bits: number, value: number): void {
  if (bits < 8) {
    const shift = (index * bits) & 7;
    const at = (index * bits) >> 3;
    block[at] = (block[at]! & ~((2 ** bits - 1) << shift)) | (value << shift);
    return;
  }
  let left = value;
  for (let at = ((index + 1) * bits) / 8 - 1; at >= (index * bits) / 8; at--) {
    block[at] = left % 256;
    left = Math.floor(left / 256);
  }
}
