/** What is to be said of an image, as `qemu-img info --output=json` does. */

import { stat } from "node:fs/promises";
import type { Image } from "../image.ts";
import { isNbdUri } from "../nbd/client/address.ts";
import { backingPath } from "../open.ts";
import { bitmapInfo } from "../qcow2/bitmaps/info.ts";
import { Compatible, Incompatible } from "../qcow2/layout.ts";
import { Qcow2Image } from "../qcow2/qcow2-image.ts";
import type { Snapshot } from "../qcow2/snapshot-table.ts";
import { listSnapshots } from "../qcow2/snapshots.ts";

/** The keys are qemu-img's. */
export type ImageInfo = Record<string, unknown> & { filename: string; format: string; "virtual-size": number };

export async function describeImage(image: Image): Promise<ImageInfo> {
  const info: ImageInfo = { filename: image.name, format: image.format, "virtual-size": image.sizeBytes };
  if (!isNbdUri(image.name)) info["actual-size"] = (await stat(image.name)).blocks * 512;
  if (!(image instanceof Qcow2Image)) return { ...info, "dirty-flag": false };
  const { header } = image;
  const snapshots = await listSnapshots(image);
  if (snapshots.length > 0) info.snapshots = snapshots.map(describeSnapshot);
  info["cluster-size"] = 2 ** header.clusterBits;
  if (header.backing !== undefined) {
    info["backing-filename"] = header.backing.name;
    info["full-backing-filename"] = backingPath(image.name, header.backing.name);
    if (header.backing.format !== undefined) info["backing-filename-format"] = header.backing.format;
  }
  info["dirty-flag"] = (header.incompatible & Incompatible.DIRTY) !== 0n;
  const bitmaps = await bitmapInfo(image);
  const v3 = {
    "compression-type": header.compression,
    "lazy-refcounts": (header.compatible & Compatible.LAZY_REFCOUNTS) !== 0n,
    "refcount-bits": 2 ** header.refcountOrder,
    corrupt: (header.incompatible & Incompatible.CORRUPT) !== 0n,
    "extended-l2": (header.incompatible & Incompatible.EXTENDED_L2) !== 0n,
    ...(bitmaps.length > 0 && { bitmaps }),
  };
  const v2 = { "compression-type": header.compression, "refcount-bits": 16 };
  info["format-specific"] = {
    type: "qcow2",
    data: { compat: header.version === 2 ? "0.10" : "1.1", ...(header.version === 2 ? v2 : v3) },
  };
  return info;
}

/** A snapshot as qemu-img's JSON has it, but for the guest's clock. */
export function snapshotRecord(snapshot: Snapshot): Record<string, unknown> {
  return {
    id: snapshot.id,
    name: snapshot.name,
    "vm-state-size": snapshot.vmStateBytes,
    "date-sec": snapshot.dateSeconds,
    "date-nsec": snapshot.dateNanoseconds,
  };
}

function describeSnapshot(snapshot: Snapshot): Record<string, unknown> {
  const clock = snapshot.vmClockNanoseconds;
  return {
    ...snapshotRecord(snapshot),
    "vm-clock-sec": Number(clock / 1_000_000_000n),
    "vm-clock-nsec": Number(clock % 1_000_000_000n),
  };
}
