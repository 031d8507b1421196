/** Making a new qcow2 image. */

import { StorageError } from "../errors.ts";
import type { Store } from "../image.ts";
import { type Compression, encodeHeader, type Header } from "./header.ts";
import { Compatible, Incompatible, Limit, roundUp, setU64, viewOf } from "./layout.ts";

export interface CreateQcow2Options {
  sizeBytes: number;
  /** `compat` of qemu-img: 2 is 0.10, 3 is 1.1. */
  version?: 2 | 3;
  /** Bytes, a power of two. */
  clusterSize?: number;
  refcountBits?: number;
  lazyRefcounts?: boolean;
  extendedL2?: boolean;
  compression?: Compression;
  backing?: { name: string; format: string };
}

const powerOfTwo = (value: number) => Number.isInteger(Math.log2(value));

/** Checks what was asked for; everything wrong is refused before anything is written. */
export function newHeader(options: CreateQcow2Options): Header {
  const { sizeBytes, version = 3, lazyRefcounts = false, extendedL2 = false, compression = "zlib" } = options;
  const { clusterSize = extendedL2 ? 128 << 10 : 64 << 10, refcountBits = 16 } = options;
  const refuse = (what: string) => new StorageError("STORAGE_OPEN", what);
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0 || sizeBytes % 512 !== 0) {
    throw refuse(`a size of ${sizeBytes} bytes: it is a multiple of 512`);
  }
  if (!powerOfTwo(clusterSize) || clusterSize < 512 || clusterSize > 2 << 20) {
    throw refuse(`a cluster size of ${clusterSize}: it is a power of two from 512 to 2M`);
  }
  if (!powerOfTwo(refcountBits) || refcountBits < 1 || refcountBits > 64) {
    throw refuse(`refcounts of ${refcountBits} bits: 1, 2, 4, 8, 16, 32 and 64 are possible`);
  }
  if (extendedL2 && clusterSize < 16384) throw refuse("extended L2 entries need clusters of at least 16K");
  if (version === 2 && (refcountBits !== 16 || lazyRefcounts || extendedL2 || compression !== "zlib")) {
    throw refuse(
      "version 2 (compat 0.10) has refcounts of 16 bits and deflate, without lazy refcounts and extended L2 entries",
    );
  }
  const entryBytes = extendedL2 ? 16 : 8;
  const l1Size = Math.max(1, Math.ceil(sizeBytes / ((clusterSize / entryBytes) * clusterSize)));
  if (l1Size * 8 > Limit.L1_BYTES) {
    throw refuse(`${sizeBytes} bytes are too many for clusters of ${clusterSize}: take larger ones`);
  }
  return {
    version,
    clusterBits: Math.log2(clusterSize),
    sizeBytes,
    l1Size,
    l1Offset: 0,
    refcountTableOffset: clusterSize,
    refcountTableClusters: 1,
    snapshotCount: 0,
    snapshotsOffset: 0,
    incompatible:
      (extendedL2 ? Incompatible.EXTENDED_L2 : 0n) | (compression === "zlib" ? 0n : Incompatible.COMPRESSION),
    compatible: lazyRefcounts ? Compatible.LAZY_REFCOUNTS : 0n,
    autoclear: 0n,
    refcountOrder: Math.log2(refcountBits),
    compression,
    extensions: [],
    ...(options.backing === undefined ? {} : { backing: options.backing }),
  };
}

/** Writes an empty image into a store, whatever it holds. The header comes last: a store that was cut off holds no image. */
export async function createQcow2(store: Store, options: CreateQcow2Options): Promise<void> {
  const header = newHeader(options);
  const clusterSize = 2 ** header.clusterBits;
  const perBlock = (clusterSize * 8) / 2 ** header.refcountOrder;
  const l1Clusters = Math.ceil((header.l1Size * 8) / clusterSize);
  // Header, refcount table, blocks, L1 table; blocks and table count themselves.
  let blocks = 1;
  for (;;) {
    header.refcountTableClusters = Math.ceil((blocks * 8) / clusterSize);
    const needed = Math.ceil((1 + header.refcountTableClusters + blocks + l1Clusters) / perBlock);
    if (needed <= blocks) break;
    blocks = needed;
  }
  const firstBlock = 1 + header.refcountTableClusters;
  const used = firstBlock + blocks + l1Clusters;
  header.l1Offset = (firstBlock + blocks) * clusterSize;
  const bytes = encodeHeader(header, store.name);
  // A device, or a server's disk, may hold something else; of tables only what is not zero is written.
  if (store.sizeBytes > 0) await store.writeZeroes(0, used * clusterSize, true);
  const table = new Uint8Array(roundUp(blocks * 8, 512));
  for (let index = 0; index < blocks; index++) {
    setU64(viewOf(table), index * 8, (firstBlock + index) * clusterSize);
    const block = firstCounts(Math.min(perBlock, used - index * perBlock), header.refcountOrder);
    await store.write((firstBlock + index) * clusterSize, [block]);
  }
  await store.write(header.refcountTableOffset, [table]);
  await store.resize(used * clusterSize);
  await store.flush();
  await store.write(0, [bytes]);
  await store.flush();
}

/** So many refcounts of 1. */
function firstCounts(count: number, order: number): Uint8Array {
  const bits = 2 ** order;
  const block = new Uint8Array(Math.ceil((count * bits) / 8));
  for (let index = 0; index < count; index++) {
    if (bits < 8) block[(index * bits) >> 3]! |= 1 << ((index * bits) & 7);
    else block[((index + 1) * bits) / 8 - 1] = 1;
  }
  return block;
}
