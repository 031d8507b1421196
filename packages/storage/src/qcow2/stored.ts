/** Reading what an image has stored of itself. */

import { StorageError } from "../errors.ts";
import type { Store } from "../image.ts";
import { clusterSizeOf, type Header, isQcow2, parseHeader } from "./header.ts";
import { Limit } from "./layout.ts";
import { parseSnapshots, type Snapshot } from "./snapshot-table.ts";

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
