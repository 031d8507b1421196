/** Opening a qcow2 image. */

import { StorageError } from "../errors.ts";
import type { Image, Store } from "../image.ts";
import type { Header } from "./header.ts";
import { Autoclear, Incompatible } from "./layout.ts";
import type { CacheSizes } from "./metadata.ts";
import { Qcow2Image, type Qcow2Parts } from "./qcow2-image.ts";
import { findSnapshot, l1Of, type SnapshotKey } from "./snapshot-table.ts";
import { readHeader, readSnapshots, readStored } from "./stored.ts";

export interface OpenQcow2Options extends CacheSizes {
  /** Opens the backing image that the header names. Without this the image stands alone: what is absent are zeros. */
  openBacking?: (backing: { name: string; format?: string }) => Promise<Image>;
  /** The disk as it was when this snapshot was made, only to be read. */
  snapshot?: SnapshotKey;
  /** Also opens, to be written, what only a repair should write. */
  damaged?: boolean;
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
    // Its refcounts were put off when it was last written ("lazy refcounts"): they are counted again first.
    const { checkQcow2 } = await import("./check/check.ts");
    const { corruptions } = await checkQcow2(store, "all");
    if (corruptions === 0) return openQcow2(store, options);
    const how = "it was not closed when it was last written, and repairing it was not enough";
    throw new StorageError("STORAGE_OPEN", `${store.name}: ${how}: see lodge image check`);
  }
  if (options.snapshot !== undefined) await useSnapshot(store, header, options.snapshot);
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

/** Has the header, in memory, lead to what a snapshot holds. */
async function useSnapshot(store: Store, header: Header, key: SnapshotKey): Promise<void> {
  if (!store.readOnly) throw new StorageError("STORAGE_OPEN", `${store.name}: a snapshot is only read`);
  const { l1Offset, l1Size, sizeBytes } = findSnapshot((await readSnapshots(store, header)).snapshots, key, store.name);
  Object.assign(header, { l1Offset, l1Size, sizeBytes });
}

async function readTables(store: Store, header: Header, clusterSize: number): Promise<Qcow2Parts> {
  for (const [what, offset] of [
    ["L1 table", header.l1Size > 0 ? header.l1Offset : 0],
    ["refcount table", header.refcountTableOffset],
    ["snapshot table", header.snapshotCount > 0 ? header.snapshotsOffset : 0],
  ] as const) {
    if (offset < store.sizeBytes) continue;
    throw new StorageError(
      "STORAGE_OPEN",
      `${store.name}: the ${what} is said to be at ${offset}, behind the file's end`,
    );
  }
  const l1 = new Uint8Array(header.l1Size * 8);
  const refcountTable = new Uint8Array(header.refcountTableClusters * clusterSize);
  await readStored(store, header.l1Offset, l1);
  await readStored(store, header.refcountTableOffset, refcountTable);
  const { snapshots, length } = await readSnapshots(store, header);
  const snapshotTables = { list: { offset: header.snapshotsOffset, length }, l1s: snapshots.map(l1Of) };
  return { store, header, l1, refcountTable, snapshotTables };
}
