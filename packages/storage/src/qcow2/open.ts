/** Opening a qcow2 image. */

import { StorageError } from "../errors.ts";
import type { Image, Store } from "../image.ts";
import { clusterSizeOf, type Header, isQcow2, parseHeader } from "./header.ts";
import { Autoclear, Incompatible, Limit } from "./layout.ts";
import type { CacheSizes } from "./metadata.ts";
import { Qcow2Image, type Qcow2Parts } from "./qcow2-image.ts";
import { parseSnapshots, type Snapshot } from "./snapshot-table.ts";

export interface OpenQcow2Options extends CacheSizes {
  /** Opens the backing image that the header names. Without this the image stands alone: what is absent are zeros. */
  openBacking?: (backing: { name: string; format?: string }) => Promise<Image>;
  /** Also opens, to be written, what only a repair should write. */
  damaged?: boolean;
}

/** Reads the header in the first cluster of a store. */
export async function readHeader(store: Store): Promise<Header> {
  const start = new Uint8Array(512);
  await store.read(0, [start]);
  if (!isQcow2(start))
    throw new StorageError("STORAGE_OPEN", `${store.name}: no qcow2 image: it does not begin like one`);
  const cluster = new Uint8Array(clusterSizeOf(start, store.name));
  await store.read(0, [cluster]);
  return parseHeader(cluster, store.name);
}

/** Opens the image in `store`, which becomes the image's to close; on failure it stays the caller's. */
export async function openQcow2(store: Store, options: OpenQcow2Options = {}): Promise<Qcow2Image> {
  const header = await readHeader(store);
  const clusterSize = 2 ** header.clusterBits;
  const corrupt = (header.incompatible & Incompatible.CORRUPT) !== 0n;
  if (corrupt && !store.readOnly && options.damaged !== true) {
    throw new StorageError(
      "STORAGE_OPEN",
      `${store.name}: the image is marked corrupt and can only be read: repair it (lodge image check --repair)`,
    );
  }
  const dirty = (header.incompatible & Incompatible.DIRTY) !== 0n;
  if (dirty && !store.readOnly && options.damaged !== true) {
    throw new StorageError(
      "STORAGE_OPEN",
      `${store.name}: the image was not closed when it was last written: repair it (qemu-img check -r all)`,
    );
  }
  const parts = await readTables(store, header, clusterSize);
  const image = new Qcow2Image({ ...parts, cacheSizes: options });
  if (!store.readOnly && (header.autoclear & ~Autoclear.BITMAPS) !== 0n) {
    // "Autoclear": whoever writes without knowing what a bit stands for takes it away.
    header.autoclear &= Autoclear.BITMAPS;
    await image.metadata.writeHeader();
  }
  if (header.backing !== undefined) image.backing = await options.openBacking?.(header.backing);
  return image;
}

async function readTables(store: Store, header: Header, clusterSize: number): Promise<Qcow2Parts> {
  const l1 = new Uint8Array(header.l1Size * 8);
  const refcountTable = new Uint8Array(header.refcountTableClusters * clusterSize);
  await readStored(store, header.l1Offset, l1);
  await readStored(store, header.refcountTableOffset, refcountTable);
  const { length } = await readSnapshots(store, header);
  return { store, header, l1, refcountTable, snapshotTable: { offset: header.snapshotsOffset, length } };
}

/** Reads no more than there is: a table that a header claims to be large costs nothing. */
export async function readStored(store: Store, offset: number, into: Uint8Array): Promise<void> {
  const there = Math.max(0, Math.min(into.length, store.sizeBytes - offset));
  if (there > 0) await store.read(offset, [into.subarray(0, there)]);
}

export async function readSnapshots(store: Store, header: Header): Promise<{ snapshots: Snapshot[]; length: number }> {
  if (header.snapshotCount === 0) return { snapshots: [], length: 0 };
  const there = Math.max(0, Math.min(Limit.SNAPSHOT_TABLE_BYTES, store.sizeBytes - header.snapshotsOffset));
  const most = Math.min(there, header.snapshotCount * (40 + 1024 + 2 * 65536));
  const bytes = new Uint8Array(most);
  await readStored(store, header.snapshotsOffset, bytes);
  return parseSnapshots(bytes, header.snapshotCount, {
    name: store.name,
    sizeBytes: header.sizeBytes,
    clusterSize: 2 ** header.clusterBits,
  });
}
