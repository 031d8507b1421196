/** Another size for a qcow2 image's disk. */

import { StorageError } from "../errors.ts";
import { HostFile } from "../file/host-file.ts";
import { Limit } from "./layout.ts";
import type { Preallocation } from "./preallocate.ts";
import type { Qcow2Image } from "./qcow2-image.ts";

/** Runs while nobody else is at work on the image. */
export async function resizeQcow2(
  image: Qcow2Image,
  sizeBytes: number,
  preallocation: Preallocation = "off",
): Promise<void> {
  const { header, mapping } = image.metadata;
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0 || sizeBytes % 512 !== 0) {
    throw new StorageError("STORAGE_OPEN", `a size of ${sizeBytes} bytes: it is a multiple of 512`);
  }
  if (header.version === 2 && header.snapshotCount > 0) {
    // Version 2 does not record a snapshot's size.
    throw new StorageError("STORAGE_OPEN", `${image.name}: a version 2 image with snapshots cannot be resized`);
  }
  if (sizeBytes < image.sizeBytes) return shrink(image, sizeBytes);
  const old = image.sizeBytes;
  const tables = Math.ceil(sizeBytes / mapping.tableSpan);
  if (tables * 8 > Limit.L1_BYTES) {
    throw new StorageError("STORAGE_OPEN", `${sizeBytes} bytes are too many for clusters of ${mapping.clusterSize}`);
  }
  if (tables > header.l1Size) await growL1(image, tables);
  const { told } = image.metadata;
  told.sizeBytes = old;
  header.sizeBytes = sizeBytes;
  // What was behind the end must not show: the rest of the last cluster, and a longer backing image. Not after a power cut either.
  const below = image.backing === undefined ? 0 : Math.min(sizeBytes, image.backing.sizeBytes);
  const tail = Math.min(sizeBytes, Math.ceil(old / mapping.clusterSize) * mapping.clusterSize);
  try {
    if (Math.max(below, tail) > old) await image.zeroInside(old, Math.max(below, tail) - old);
    await image.metadata.commit();
  } catch (cause) {
    header.sizeBytes = old;
    throw cause;
  } finally {
    delete told.sizeBytes;
  }
  await image.metadata.writeHeader();
  if (preallocation !== "off") await fillGrown(image, old, tail, preallocation);
  await image.metadata.settle();
}

/** Space for all from `old` on; `tail` is where the cluster ends that the disk ended in. If there is none, the old size is back. */
async function fillGrown(image: Qcow2Image, old: number, tail: number, how: Preallocation): Promise<void> {
  const { store, clusterSize } = image.metadata;
  try {
    if (!(store instanceof HostFile)) {
      throw new StorageError("STORAGE_OPEN", `${image.name}: preallocation=${how}: only images in files have that`);
    }
    const { preallocate } = await import("./preallocate.ts");
    if (tail > old) await image.writeInside(old, [new Uint8Array(tail - old)]);
    await preallocate(image, store, how, { from: Math.ceil(old / clusterSize) * clusterSize, cleared: true });
  } catch (cause) {
    await shrink(image, old);
    throw cause;
  }
}

async function growL1(image: Qcow2Image, tables: number): Promise<void> {
  const { metadata } = image;
  const { header, mapping, refcounts, store, clusterSize } = metadata;
  const l1 = new Uint8Array(tables * 8);
  l1.set(mapping.l1);
  const old = { offset: header.l1Offset, bytes: header.l1Size * 8 };
  const offset = await refcounts.allocateAll(Math.ceil(l1.length / clusterSize));
  await store.writeZeroes(offset, Math.ceil(l1.length / clusterSize) * clusterSize, true);
  await store.write(offset, [l1]);
  await metadata.commit();
  header.l1Offset = offset;
  header.l1Size = tables;
  await metadata.writeHeader();
  mapping.useTable(l1);
  metadata.free(old.offset / clusterSize, Math.ceil(old.bytes / clusterSize));
}

async function shrink(image: Qcow2Image, sizeBytes: number): Promise<void> {
  const { metadata } = image;
  await dropFrom(image, Math.ceil(sizeBytes / metadata.clusterSize) * metadata.clusterSize);
  await metadata.commit();
  metadata.header.sizeBytes = sizeBytes;
  await metadata.writeHeader();
  await metadata.settle();
}

/** The image holds nothing any more: all of it is the backing image's. Runs while nobody else is at work on it. */
export async function emptyQcow2(image: Qcow2Image): Promise<void> {
  await dropFrom(image, 0);
  await image.metadata.settle();
}

/** Another name in the header, and nothing else. Runs while nobody else is at work on the image. */
export async function setBacking(
  image: Qcow2Image,
  backing: { name: string; format: string } | undefined,
): Promise<void> {
  const { header } = image.metadata;
  if (backing === undefined) delete header.backing;
  else header.backing = backing;
  await image.metadata.writeHeader();
}

/** Gives up all clusters from a guest offset on; they are absent afterwards. */
async function dropFrom(image: Qcow2Image, first: number): Promise<void> {
  const { metadata } = image;
  const { header, mapping, clusterSize } = metadata;
  for (let at = first; at < header.sizeBytes; ) {
    const index = mapping.tableIndex(at);
    const next = (index + 1) * mapping.tableSpan;
    if (mapping.tableAt(index) !== 0) {
      await metadata.ensureTable(index);
      for (; at < Math.min(next, header.sizeBytes); at += clusterSize) {
        while (mapping.slice(at) === undefined) await mapping.load(at);
        metadata.freeEntry(at);
        mapping.setEntry(at, 0);
        await metadata.room();
      }
      // The whole table's clusters are given up.
      if (index * mapping.tableSpan >= first) metadata.dropTable(index);
    }
    at = next;
  }
}
