/** Changing what an image was made with: its version, lazy refcounts, the width of its refcounts. */

import { StorageError } from "../errors.ts";
import type { Store } from "../image.ts";
import { readBitmapDirectory } from "./bitmaps/directory.ts";
import { checkQcow2 } from "./check/check.ts";
import { Findings } from "./check/findings.ts";
import { findReferences } from "./check/references.ts";
import { repair } from "./check/repair.ts";
import { Compatible, Extension, Incompatible } from "./layout.ts";
import { Kind } from "./mapping.ts";
import { openQcow2 } from "./open.ts";
import type { Qcow2Image } from "./qcow2-image.ts";
import { readHeader } from "./stored.ts";

export interface AmendOptions {
  version?: 2 | 3;
  lazyRefcounts?: boolean;
  refcountBits?: number;
}

const ZEROS = new Uint8Array(64 << 10);
/** What version 2 has. */
const V2_REFCOUNT_BITS = 16;

/**
 * Changes the image in a store that nobody else has open, and that stays its owner's. All that cannot be is refused before
 * anything is changed. Wherever it is cut off, the image reads as before, and is what it was or what it becomes.
 */
export async function amendQcow2(store: Store, options: AmendOptions): Promise<void> {
  const header = await readHeader(store);
  const { version = header.version, refcountBits = 2 ** header.refcountOrder } = options;
  const refuse = (what: string) => new StorageError("STORAGE_OPEN", `${store.name}: ${what}`);
  if (![1, 2, 4, 8, 16, 32, 64].includes(refcountBits)) {
    throw refuse(`refcounts of ${refcountBits} bits: 1, 2, 4, 8, 16, 32 and 64 are possible`);
  }
  if (version === 2 && refcountBits !== V2_REFCOUNT_BITS)
    throw refuse("version 2 (compat 0.10) has refcounts of 16 bits");
  if (version === 2 && options.lazyRefcounts === true) throw refuse("lazy refcounts need version 3 (compat 1.1)");
  if (version === 2 && header.version === 3) await refuseOlder(store, refuse);
  const { corruptions } = await checkQcow2(store);
  if (corruptions > 0) throw refuse("the image is damaged: repair it before (lodge image check --repair)");
  const narrower = refcountBits < 2 ** header.refcountOrder;
  if (narrower) await refuseNarrow(store, refcountBits, refuse);
  if (version === 3 && header.version === 2) await changeHeader(store, (image) => upgrade(image));
  if (refcountBits !== 2 ** header.refcountOrder) await widen(store, refcountBits);
  if (options.lazyRefcounts !== undefined && version === 3) {
    const on = options.lazyRefcounts;
    await changeHeader(store, async ({ header: now }) => {
      now.compatible = on ? now.compatible | Compatible.LAZY_REFCOUNTS : now.compatible & ~Compatible.LAZY_REFCOUNTS;
    });
  }
  if (version === 2 && header.version === 3) await changeHeader(store, downgrade);
}

type Refuse = (what: string) => StorageError;

async function refuseOlder(store: Store, refuse: Refuse): Promise<void> {
  const header = await readHeader(store);
  if ((header.incompatible & ~Incompatible.DIRTY) !== 0n) {
    throw refuse("version 2 (compat 0.10) has neither extended L2 entries nor zstd, which this image has");
  }
  if (header.snapshotCount > 0) {
    throw refuse("its snapshots may have zero clusters, which version 2 (compat 0.10) has not: delete them before");
  }
  const directory = await readBitmapDirectory(store, header);
  if ((directory?.entries.length ?? 0) > 0) throw refuse("version 2 (compat 0.10) has no bitmaps: remove them before");
}

async function refuseNarrow(store: Store, bits: number, refuse: Refuse): Promise<void> {
  const { counts } = await findReferences(store, await readHeader(store), new Findings());
  for (const [cluster, references] of counts.used()) {
    if (references < 2 ** bits) continue;
    throw refuse(
      `the cluster at ${cluster * counts.clusterSize} has ${references} references, too many for ${bits} bits`,
    );
  }
}

/** Opens the image, changes its header in memory while nobody else is at work, and stores it. */
async function changeHeader(store: Store, change: (image: Qcow2Image) => Promise<void>): Promise<void> {
  const image = await openQcow2(store);
  await image.alone(async () => {
    await change(image);
    await image.metadata.settle();
    await image.metadata.writeHeader();
  });
}

async function upgrade({ header }: Qcow2Image): Promise<void> {
  header.version = 3;
}

/** Zero clusters become absent ones, or, where something shows from below, written ones. */
async function downgrade(image: Qcow2Image): Promise<void> {
  const { metadata, header } = image;
  const { mapping, clusterSize } = metadata;
  for (let at = 0; at < header.sizeBytes; ) {
    await metadata.room();
    const run = mapping.run(at, header.sizeBytes - at);
    if (run === undefined) {
      await mapping.load(at);
      continue;
    }
    const isZero = run.kind === Kind.ZERO || run.kind === Kind.ZERO_ROOM;
    if (isZero && header.backing !== undefined) {
      const length = Math.min(run.length, ZEROS.length);
      await image.writeInside(at, [ZEROS.subarray(0, length)]);
      at += length;
      continue;
    }
    for (let cluster = at; isZero && cluster < at + run.length; cluster += clusterSize) {
      metadata.freeEntry(cluster);
      mapping.setEntry(cluster, 0);
    }
    at += run.length;
  }
  // What version 2 cannot say has to be stored before the header says it.
  await metadata.settle();
  header.version = 2;
  header.compatible = 0n;
  header.autoclear = 0n;
  header.extensions = header.extensions.filter(({ type }) => type !== Extension.BITMAPS);
}

/** All refcounts anew, behind the image's end; one write of the header puts them in place. */
async function widen(store: Store, bits: number): Promise<void> {
  const header = await readHeader(store);
  const found = await findReferences(store, header, new Findings());
  header.refcountOrder = Math.log2(bits);
  await repair(store, header, found);
}
