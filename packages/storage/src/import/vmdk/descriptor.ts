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

export interface Descriptor {
  extents: DescribedExtent[];
  /** CID: another one after the first write of whoever opens it. */
  identity?: string;
  /** The image that this one holds the changes to. */
  parent?: { identity: string; path: string };
}

/** The parent's CID of a disk that has none. */
const NO_PARENT = "ffffffff";

export function parseDescriptor(store: Store, text: string): Descriptor {
  const extents: DescribedExtent[] = [];
  const said = new Map<string, string>();
  for (const line of text.split("\n")) {
    const [, name, value] = /^\s*(CID|parentCID|parentFileNameHint)\s*=\s*"?([^"\r]*)"?/i.exec(line) ?? [];
    if (name !== undefined) said.set(name.toLowerCase(), value!.trim());
    const extent = EXTENT.exec(line.trim());
    if (extent === null) continue;
    if (extents.length === MAX_EXTENTS) throw refusal(store, `more than ${MAX_EXTENTS} files`);
    extents.push(describe(store, extent));
  }
  if (extents.length === 0) throw refusal(store, "its descriptor names no file");
  const identity = said.get("cid")?.toLowerCase();
  const parent = said.get("parentcid")?.toLowerCase() ?? NO_PARENT;
  return {
    extents,
    ...(identity !== undefined && { identity }),
    ...(parent !== NO_PARENT && { parent: { identity: parent, path: said.get("parentfilenamehint") ?? "" } }),
  };
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
