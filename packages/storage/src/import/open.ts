/** Opening images in other hypervisors' formats. */

import { readdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { HostFile, type HostFileOptions } from "../file/host-file.ts";
import type { Image, Store } from "../image.ts";
import { isNbdUri } from "../nbd/client/address.ts";
import { head, type OpenFormat, refusal } from "./format.ts";
import type { Neighbours } from "./parents.ts";
import { isVdi, openVdi } from "./vdi.ts";
import { endsAsVhd, isVhd, openVhd } from "./vhd.ts";
import { isVhdx } from "./vhdx/layout.ts";
import { openVhdx } from "./vhdx/vhdx.ts";
import { isVmdk, openVmdk } from "./vmdk/vmdk.ts";

/** Snapshots upon snapshots; a chain that is longer has a ring in it. */
const MOST_IMAGES = 64;

/** The formats that are read and not written, by QEMU's names for them. */
export const IMPORT_FORMATS: ReadonlyMap<string, OpenFormat> = new Map([
  ["vmdk", openVmdk],
  ["vpc", openVhd],
  ["vhdx", openVhdx],
  ["vdi", openVdi],
]);

/** The name of the format, or undefined when it is none of these. */
export async function probeImport(store: Store): Promise<string | undefined> {
  const start = await head(store, 512);
  if (isVmdk(start)) return "vmdk";
  if (isVhdx(start)) return "vhdx";
  if (isVdi(start)) return "vdi";
  if (isVhd(start)) return "vpc";
  // A fixed VHD is a raw disk with a footer; only with the name does that say something.
  return /\.vhd$/i.test(store.name) && (await endsAsVhd(store)) ? "vpc" : undefined;
}

/** Opens the image in `store`, which becomes the image's to close; on failure it stays the caller's. */
export async function openImport(format: string, store: Store, options: HostFileOptions): Promise<Image> {
  if (!store.readOnly) {
    const cure = "open it read-only, or make a qcow2 image of it with lodge image convert";
    throw refusal(store, `${format} is read and not written: ${cure}`);
  }
  return await IMPORT_FORMATS.get(format)!(store, neighbours(format, store, options, 1));
}

/** Files in the folder of `store`, which is the `depth`th image of its chain. */
export function neighbours(format: string, store: Store, options: HostFileOptions, depth: number): Neighbours {
  const open = async (name: string): Promise<Store> => {
    if (isNbdUri(store.name)) throw refusal(store, `it needs the file ${name} beside it, which NBD has not`);
    return await HostFile.open(join(dirname(store.name), name), options);
  };
  return {
    file: open,
    names: async () => (isNbdUri(store.name) ? [] : await readdir(dirname(store.name))),
    image: async (name) => {
      if (depth === MOST_IMAGES) throw refusal(store, `a chain of more than ${MOST_IMAGES} images`);
      const parent = await open(name);
      try {
        return await IMPORT_FORMATS.get(format)!(parent, neighbours(format, parent, options, depth + 1));
      } catch (error) {
        await parent.close();
        throw error;
      }
    },
  };
}
