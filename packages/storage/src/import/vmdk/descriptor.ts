/** VMDK's descriptor: a text that names the files of a disk ("Virtual Disk Format 5.0", "The Descriptor File"). */

import type { Store } from "../../image.ts";
import { refusal } from "../format.ts";

/** Larger ones are none; VMware's have a kilobyte. */
export const MAX_DESCRIPTOR_BYTES = 64 << 10;
/** A disk of 2 GiB pieces reaches 8 TiB with these. */
const MAX_EXTENTS = 4096;
const SECTOR = 512;

export interface DescribedExtent {
  sizeBytes: number;
  kind: "flat" | "sparse" | "zero";
  /** A file in the folder of the descriptor. */
  file: string;
  /** Where a flat extent begins in its file. */
  at: number;
}

/** RW 4192256 SPARSE "disk-s001.vmdk"; a flat one ends with its first sector in the file. */
const EXTENT = /^(RW|RDONLY|NOACCESS)\s+(\d{1,16})\s+([A-Z0-9]+)(?:\s+"([^"]*)")?(?:\s+(\d{1,16}))?\s*$/;

export function isDescriptor(start: Buffer): boolean {
  return /^\s*# *disk descriptorfile/i.test(start.toString("latin1", 0, 64));
}

export function parseDescriptor(store: Store, text: string): DescribedExtent[] {
  const extents: DescribedExtent[] = [];
  for (const line of text.split("\n")) {
    const parent = /^\s*parentCID\s*=\s*([0-9a-f]+)/i.exec(line)?.[1];
    if (parent !== undefined && !/^f{8}$/i.test(parent)) {
      const merge = "consolidate its snapshots in VMware, or vmware-vdiskmanager -r makes a whole disk of it";
      throw refusal(store, `this VMDK holds the changes to another disk: ${merge}`);
    }
    const extent = EXTENT.exec(line.trim());
    if (extent === null) continue;
    if (extents.length === MAX_EXTENTS) throw refusal(store, `more than ${MAX_EXTENTS} files`);
    extents.push(describe(store, extent));
  }
  if (extents.length === 0) throw refusal(store, "its descriptor names no file");
  return extents;
}

function describe(store: Store, [, access, sectors, type, file, at]: readonly (string | undefined)[]): DescribedExtent {
  const sizeBytes = Number(sectors) * SECTOR;
  if (!(sizeBytes > 0 && sizeBytes <= 2 ** 46)) throw refusal(store, `a part of ${sizeBytes} bytes`);
  if (access === "NOACCESS") throw refusal(store, "a part of the disk may not be read");
  if (type === "ZERO") return { sizeBytes, kind: "zero", file: "", at: 0 };
  const kind = type === "FLAT" || type === "VMFS" ? "flat" : type === "SPARSE" ? "sparse" : undefined;
  if (kind === undefined) throw refusal(store, `a part of kind ${type}; FLAT, VMFS, SPARSE and ZERO are known`);
  // The text comes with the disk: it must not name files of this host.
  if (file === undefined || file === "" || file === "." || file === ".." || /[/\\\0]/.test(file)) {
    throw refusal(store, `its descriptor names the file "${file ?? ""}"; it has to be in the same folder`);
  }
  return { sizeBytes, kind, file, at: Number(at ?? 0) * SECTOR };
}
