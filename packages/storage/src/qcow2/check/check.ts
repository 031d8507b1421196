/** Whether an image is consistent, and making it so. */

import type { Store } from "../../image.ts";
import { encodeHeader, entryBytesOf, type Header } from "../header.ts";
import { Entry, Incompatible, viewOf } from "../layout.ts";
import { readHeader, readStored } from "../stored.ts";
import { Findings } from "./findings.ts";
import { findReferences, type References } from "./references.ts";
import { repair } from "./repair.ts";
import { storedCounts } from "./stored-counts.ts";

export interface CheckResult {
  corruptions: number;
  leaks: number;
  corruptionsFixed: number;
  leaksFixed: number;
  /** The first of what was found, in words. */
  messages: string[];
  imageEndOffset: number;
  totalClusters: number;
  allocatedClusters: number;
  compressedClusters: number;
  fragmentedClusters: number;
}

/** `leaks` gives lost space back; `all` also mends what is corrupt and can be mended without losing what can be read. */
export type Repair = "none" | "leaks" | "all";

/** Checks, and perhaps repairs, the qcow2 image in a store that nobody else writes meanwhile. */
export async function checkQcow2(store: Store, how: Repair = "none"): Promise<CheckResult> {
  const header = await readHeader(store);
  const before = await examine(store, header);
  const { findings } = before;
  const broken = findings.corruptions + findings.leaks > 0 || (header.incompatible & Incompatible.DIRTY) !== 0n;
  const wanted = (how === "all" && broken) || (how === "leaks" && findings.leaks > 0 && findings.corruptions === 0);
  if (!wanted) return result(store, header, before.found, findings, findings);
  await repair(store, header, before.found);
  const after = await examine(store, header);
  if (after.findings.corruptions === 0 && (header.incompatible & Incompatible.CORRUPT) !== 0n) {
    header.incompatible &= ~Incompatible.CORRUPT;
    await store.write(0, [encodeHeader(header, store.name)]);
    await store.flush();
  }
  return result(store, header, after.found, findings, after.findings);
}

async function examine(store: Store, header: Header): Promise<{ found: References; findings: Findings }> {
  const findings = new Findings();
  const found = await findReferences(store, header, findings);
  await compareCounts(store, header, found, findings);
  return { found, findings };
}

async function compareCounts(store: Store, header: Header, found: References, findings: Findings): Promise<void> {
  const clusterSize = 2 ** header.clusterBits;
  const stored = await storedCounts(store, header);
  for (const [cluster, references] of found.counts.used()) {
    const refcount = stored.get(cluster);
    if (refcount < references)
      findings.corrupt(
        `the cluster at ${cluster * clusterSize} has refcount ${refcount}, and ${references} references`,
      );
    else if (refcount > references)
      findings.leak(`the cluster at ${cluster * clusterSize} has refcount ${refcount}, and ${references} references`);
  }
  for (const [cluster, refcount] of stored.used()) {
    if (found.counts.get(cluster) === 0)
      findings.leak(`the cluster at ${cluster * clusterSize} has refcount ${refcount}, and no references`);
  }
  // "COPIED": set exactly where the refcount is one.
  const l1 = viewOf(found.l1);
  for (const { offset, activeIndex } of found.tables.values()) {
    if (activeIndex === undefined) continue;
    const one = stored.get(offset / clusterSize) === 1;
    if (l1.getUint32(activeIndex * 8) >= Entry.COPIED !== one)
      findings.corrupt(`the L2 table at ${offset} is marked wrongly as ${one ? "shared" : "writable"}`);
    const bytes = new Uint8Array(clusterSize);
    await readStored(store, offset, bytes);
    const view = viewOf(bytes);
    for (let at = 0; at < clusterSize; at += entryBytesOf(header)) {
      const { first, count, compressed } = found.mapping.holdsAt(view, at);
      if (compressed || count === 0 || !Number.isInteger(first)) continue;
      const alone = stored.get(first) === 1;
      if (view.getUint32(at) >= Entry.COPIED !== alone)
        findings.corrupt(
          `the data cluster at ${first * clusterSize} is marked wrongly as ${alone ? "shared" : "writable"}`,
        );
    }
  }
}

function result(store: Store, header: Header, found: References, before: Findings, after: Findings): CheckResult {
  const clusterSize = 2 ** header.clusterBits;
  let end = 0;
  for (const [cluster] of found.counts.used()) end = cluster + 1;
  return {
    corruptions: after.corruptions,
    leaks: after.leaks,
    corruptionsFixed: Math.max(0, before.corruptions - after.corruptions),
    leaksFixed: Math.max(0, before.leaks - after.leaks),
    messages: before.messages,
    imageEndOffset: Math.min(end * clusterSize, Math.ceil(store.sizeBytes / clusterSize) * clusterSize),
    totalClusters: Math.ceil(header.sizeBytes / clusterSize),
    allocatedClusters: found.allocatedClusters,
    compressedClusters: found.compressedClusters,
    fragmentedClusters: found.fragmentedClusters,
  };
}
