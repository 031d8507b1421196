/** Opening an image by its path. */

import { dirname, isAbsolute, join } from "node:path";
import { StorageError } from "./errors.ts";
import { HostFile, type HostFileOptions } from "./file/host-file.ts";
import type { Image, Store } from "./image.ts";
import { isNbdUri } from "./nbd/client/address.ts";
import { isQcow2 } from "./qcow2/header.ts";
import { openQcow2 } from "./qcow2/open.ts";
import type { SnapshotKey } from "./qcow2/snapshot-table.ts";
import { RawImage } from "./raw/raw-image.ts";

/** A chain that is longer has a ring in it, or nobody can mean it. */
const MOST_IMAGES = 256;

export interface OpenImageOptions {
  /**
   * The format as `qemu-img` spells it: `raw`, `qcow2`, or one that is only read, such as `vmdk`. Without it the content
   * decides, and what looks like nothing known is raw; a guest that writes a header into its raw disk would decide then,
   * so whoever runs guests names the format.
   */
  format?: string;
  /** Nothing is written, and other readers may share it. Backing images are always opened so. */
  readOnly?: boolean;
  /** Keeps QEMU's locks on every file of the chain; default true. */
  lock?: boolean;
  /** Past the host's page cache, on every file of the chain. */
  direct?: boolean;
  /** Each write to a host file ends when it lasts. */
  through?: boolean;
  /** Default true; without it, flushes of host files do nothing: what a host that fails leaves is anything. */
  flushes?: boolean;
  /** Default true; without it what the image does not hold itself reads as zeros. */
  backing?: boolean;
  /** The disk as it was when this internal snapshot was made; with `readOnly`. */
  snapshot?: SnapshotKey;
  /** Of a raw image only this, which keeps its size. */
  part?: { offset: number; sizeBytes?: number };
  /** Bytes of L2 tables that are kept in memory, for each image of the chain. */
  l2Bytes?: number;
}

/** The bytes at a path or an NBD address. */
export async function openStore(where: string, options: HostFileOptions = {}): Promise<Store> {
  if (!isNbdUri(where)) return HostFile.open(where, options);
  // Loaded where it is needed: half of a short command's time is loading.
  const { NbdStore } = await import("./nbd/client/nbd-store.ts");
  return NbdStore.open(where, options);
}

/**
 * Opens the disk image at `path`, which may be an address such as `nbd://HOST/EXPORT`, with its backing chain. The image
 * locks what it has opened, against every QEMU and Lodge, until it is closed. Fails with a {@link StorageError} of code
 * `STORAGE_OPEN` that names the file of the chain that cannot be opened.
 */
export function openImage(path: string, options: OpenImageOptions = {}): Promise<Image> {
  return openAt(path, options, 1);
}

async function openAt(path: string, options: OpenImageOptions, depth: number): Promise<Image> {
  const { readOnly = false, lock = true, direct = false, through = false, flushes = true } = options;
  if (depth > MOST_IMAGES) {
    throw new StorageError("STORAGE_OPEN", `${path}: a backing chain of more than ${MOST_IMAGES} images`);
  }
  const store = await openStore(path, { readOnly, lock, direct, through, flushes });
  try {
    return await openFormat(store, options, depth);
  } catch (cause) {
    await store.close();
    throw cause;
  }
}

async function openFormat(store: Store, options: OpenImageOptions, depth: number): Promise<Image> {
  const format = options.format ?? (await probeFormat(store));
  const { l2Bytes, snapshot } = options;
  if (snapshot !== undefined && format !== "qcow2") {
    throw new StorageError(
      "STORAGE_OPEN",
      `${store.name}: an image of the format ${format} has no snapshots: qcow2 has`,
    );
  }
  if (options.part !== undefined) return await openPart(store, format, options.part);
  if (format === "raw") return new RawImage(store);
  if (format !== "qcow2") {
    const { IMPORT_FORMATS, openImport } = await import("./import/open.ts");
    const { lock = true } = options;
    if (IMPORT_FORMATS.has(format)) return await openImport(format, store, { readOnly: true, lock });
    const known = ["raw", "qcow2", ...IMPORT_FORMATS.keys()].join(", ");
    throw new StorageError("STORAGE_OPEN", `${store.name}: the format ${format} is unknown: there are ${known}`);
  }
  return openQcow2(store, {
    ...(snapshot !== undefined && { snapshot }),
    ...(l2Bytes === undefined ? {} : { l2Bytes }),
    ...(options.backing === false
      ? {}
      : {
          openBacking: ({ name, format }) => {
            const path = backingPath(store.name, name);
            // Whoever writes a raw disk could make it look like an image of any file that he wants to read.
            if (format === undefined) {
              const how = `name it: lodge image rebase -u -b ${name} -F FORMAT ${store.name}`;
              throw new StorageError(
                "STORAGE_OPEN",
                `${store.name}: its backing file's format is not recorded; ${how}`,
              );
            }
            const { snapshot: _, ...below } = options;
            return openAt(path, { ...below, format, readOnly: true }, depth + 1);
          },
        }),
  });
}

async function openPart(store: Store, format: string, part: { offset: number; sizeBytes?: number }): Promise<Image> {
  const wrong = (why: string) => new StorageError("STORAGE_OPEN", `${store.name}: ${why}`);
  if (format !== "raw") throw wrong(`an image of the format ${format} is opened as a whole: parts are of raw ones`);
  const { offset, sizeBytes = store.sizeBytes - offset } = part;
  if (offset + sizeBytes > store.sizeBytes || sizeBytes <= 0) {
    throw wrong(`it has ${store.sizeBytes} bytes, and no part of ${sizeBytes} bytes at ${offset}`);
  }
  if (offset % 512 !== 0 || sizeBytes % 512 !== 0) throw wrong("a part begins and ends at a multiple of 512");
  const { ImageWindow } = await import("./window.ts");
  return new ImageWindow(new RawImage(store), offset, sizeBytes);
}

/** What the content of a store looks like. */
export async function probeFormat(store: Store): Promise<string> {
  const start = new Uint8Array(512);
  await store.read(0, [start]);
  if (isQcow2(start)) return "qcow2";
  const { probeImport } = await import("./import/open.ts");
  return (await probeImport(store)) ?? "raw";
}

/** A backing file's name is relative to the folder of the image that names it. */
export function backingPath(image: string, name: string): string {
  const path = name.startsWith("file:") ? name.slice("file:".length) : name;
  return isAbsolute(path) || isNbdUri(path) ? path : join(dirname(image), path);
}
