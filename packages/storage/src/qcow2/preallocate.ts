/** Space in advance, as qemu-img's `create -o preallocation=` and `resize --preallocation=` have it. */

import type { HostFile } from "../file/host-file.ts";
import { Kind } from "./mapping.ts";
import type { Qcow2Image } from "./qcow2-image.ts";

/** `metadata`: tables lead to clusters of a sparse file; `falloc`: the host has set their space aside; `full`: written. */
export type Preallocation = "off" | "metadata" | "falloc" | "full";

const ALL_SUBCLUSTERS = 0xffffffff;

export interface PreallocateOptions {
  /** Where a cluster begins; all from there on is nothing yet, or zeros. */
  from?: number;
  /** What clusters hold that were given out before must not show. */
  cleared?: boolean;
}

/** Gives every cluster its place that has none. Runs while nobody else is at work on the image. */
export async function preallocate(
  image: Qcow2Image,
  file: HostFile,
  how: Preallocation,
  { from = 0, cleared = false }: PreallocateOptions = {},
): Promise<void> {
  const { metadata } = image;
  const { mapping, refcounts, clusterSize } = metadata;
  for (let at = from; at < image.sizeBytes; ) {
    await metadata.room();
    await metadata.ensureTable(mapping.tableIndex(at));
    while (mapping.slice(at) === undefined) await mapping.load(at);
    const end = Math.min(image.sizeBytes, mapping.sliceEnd(at));
    const run = mapping.run(at, end - at)!;
    const clusters = Math.ceil(run.length / clusterSize);
    if (run.host !== 0 || run.kind === Kind.COMPRESSED) {
      at += clusters * clusterSize;
      continue;
    }
    const whollyNew = refcounts.endBytes;
    const { offset, count } = await refcounts.allocate(clusters);
    const bytes = count * clusterSize;
    try {
      await occupy(file, offset, bytes, how, cleared && offset < whollyNew);
    } catch (cause) {
      metadata.free(offset / clusterSize, count);
      throw cause;
    }
    while (mapping.slice(at) === undefined) await mapping.load(at);
    for (let index = 0; index < count; index++, at += clusterSize) {
      mapping.setEntry(at, offset + index * clusterSize, { stored: ALL_SUBCLUSTERS });
    }
    metadata.wrote();
  }
  await metadata.settle();
}

/** Has the host hold clusters as it is wanted; `used` ones may have another content than zeros. */
function occupy(file: HostFile, offset: number, bytes: number, how: Preallocation, used: boolean): Promise<void> {
  if (how === "full") return file.fill(offset, bytes, true);
  if (used) return file.writeZeroes(offset, bytes, how === "metadata");
  if (how === "falloc") return file.fill(offset, bytes, false);
  return offset + bytes > file.sizeBytes ? file.resize(offset + bytes) : Promise.resolve();
}
