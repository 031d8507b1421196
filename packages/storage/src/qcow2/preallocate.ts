/** Space for a whole disk in advance, as `qemu-img create -o preallocation=` has it. */

import type { HostFile } from "../file/host-file.ts";
import type { Qcow2Image } from "./qcow2-image.ts";

/** `metadata`: tables lead to clusters of a sparse file; `falloc`: the host has set their space aside; `full`: written. */
export type Preallocation = "off" | "metadata" | "falloc" | "full";

const ALL_SUBCLUSTERS = 0xffffffff;

/** Gives every cluster of a new image its place. */
export async function preallocate(image: Qcow2Image, file: HostFile, how: Preallocation): Promise<void> {
  await image.alone(async () => {
    const { metadata } = image;
    const { mapping, refcounts, clusterSize } = metadata;
    const sliceSpan = (metadata.l2.sliceBytes / mapping.entryBytes) * clusterSize;
    for (let at = 0; at < image.sizeBytes; ) {
      await metadata.room();
      await metadata.ensureTable(mapping.tableIndex(at));
      const end = Math.min(image.sizeBytes, at - (at % sliceSpan) + sliceSpan);
      const { offset, count } = await refcounts.allocate(Math.ceil((end - at) / clusterSize));
      while (mapping.slice(at) === undefined) await mapping.load(at);
      for (let index = 0; index < count; index++, at += clusterSize) {
        mapping.setEntry(at, offset + index * clusterSize, { stored: ALL_SUBCLUSTERS });
      }
      const bytes = count * clusterSize;
      if (how !== "metadata") await file.fill(offset, bytes, how === "full");
      else if (offset + bytes > file.sizeBytes) await file.resize(offset + bytes);
    }
    await metadata.settle();
  });
}
