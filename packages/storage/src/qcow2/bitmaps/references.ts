/** The clusters that bitmaps hold, for a check. */

import type { Store } from "../../image.ts";
import type { Counts } from "../check/counts.ts";
import type { Findings } from "../check/findings.ts";
import type { Header } from "../header.ts";
import { getU64, viewOf } from "../layout.ts";
import { readStored } from "../stored.ts";
import { readBitmapDirectory } from "./directory.ts";

export async function countBitmaps(store: Store, header: Header, counts: Counts, findings: Findings): Promise<void> {
  let directory: Awaited<ReturnType<typeof readBitmapDirectory>>;
  try {
    directory = await readBitmapDirectory(store, header);
  } catch (cause) {
    findings.corrupt((cause as Error).message);
    return;
  }
  if (directory === undefined || directory.length === 0) return;
  counts.add(directory.offset, directory.length, 1);
  let left = 2 * store.sizeBytes;
  for (const { name, tableOffset, tableSize } of directory.entries) {
    if (tableSize === 0) continue;
    left -= tableSize * 8;
    if (!counts.add(tableOffset, tableSize * 8, 1) || left < 0) {
      findings.corrupt(`the table of bitmap ${JSON.stringify(name)} is behind the end of the file`);
      continue;
    }
    const table = new Uint8Array(tableSize * 8);
    await readStored(store, tableOffset, table);
    for (let at = 0; at < table.length; at += 8) {
      const entry = getU64(viewOf(table), at);
      const offset = entry - (entry % 512);
      if (offset === 0) continue;
      const clusterSize = 2 ** header.clusterBits;
      if (offset % clusterSize !== 0 || !counts.add(offset, clusterSize, 1)) {
        findings.corrupt(`bitmap ${JSON.stringify(name)} leads to ${offset}, where no cluster is`);
      }
    }
  }
}
