/** A machine of VMware's or VirtualBox's becomes ours: its definition, and its disks as images that can be written. */

import { unlink } from "node:fs/promises";
import { join } from "node:path";
import { StorageError } from "../errors.ts";
import { HostFile } from "../file/host-file.ts";
import type { Image } from "../image.ts";
import { refusal } from "../import/format.ts";
import { IMPORT_FORMATS, probeImport } from "../import/open.ts";
import { openImage } from "../open.ts";
import { copyImage } from "../operations/copy.ts";
import { createQcow2 } from "../qcow2/create.ts";
import { RawImage } from "../raw/raw-image.ts";
import { Archive } from "./archive.ts";
import { type Appliance, type ApplianceDisk, parseOvf } from "./ovf.ts";

export interface ImportOptions {
  /** The folder for the disks. */
  into: string;
  /** What the disks become; default qcow2. */
  format?: "qcow2" | "raw";
  /** What the machine is called, in place of the name that it has. */
  name?: string;
  /** What is being done, and how much of it: from 0 to 1. */
  progress?: (step: string, part: number) => void;
  signal?: AbortSignal;
}

export type ImportedDisk = Omit<ApplianceDisk, "file"> & { file: string; format: "qcow2" | "raw" };
export type ImportedMachine = Omit<Appliance, "disks"> & { disks: ImportedDisk[] };

/**
 * Imports an .ova, or an .ovf with its files beside it. Nothing is left behind by a failure, which is a
 * {@link StorageError}.
 */
export async function importAppliance(path: string, options: ImportOptions): Promise<ImportedMachine> {
  const { into, format = "qcow2" } = options;
  await using archive = await Archive.open(path);
  const appliance = describe(path, archive.ovf);
  const name = options.name ?? fileName(appliance.name);
  const made: string[] = [];
  try {
    const disks: ImportedDisk[] = [];
    for (const [index, disk] of appliance.disks.entries()) {
      const file = join(into, `${name}-disk${index + 1}.${format}`);
      const step = `disk ${index + 1} of ${appliance.disks.length}`;
      options.progress?.(step, 0);
      const capacityBytes = await importDisk(archive, disk, { file, format, made, step, options });
      disks.push({ ...disk, file, format, capacityBytes });
    }
    return { ...appliance, name, disks };
  } catch (error) {
    for (const file of made) await unlink(file).catch(() => {});
    throw error;
  }
}

function describe(path: string, ovf: string): Appliance {
  try {
    return parseOvf(ovf);
  } catch (error) {
    if (!(error instanceof StorageError)) throw error;
    throw new StorageError(error.code, `${path}: ${error.message}`, { cause: error });
  }
}

interface Target {
  file: string;
  format: "qcow2" | "raw";
  /** What a failure takes away again. */
  made: string[];
  step: string;
  options: ImportOptions;
}

/** Makes one disk; its size. */
async function importDisk(archive: Archive, disk: ApplianceDisk, target: Target): Promise<number> {
  const { step, options } = target;
  const source = disk.file === undefined ? undefined : await openDisk(archive, disk.file);
  try {
    // The image counts where it is larger than what is said of it.
    const sizeBytes = Math.max(Math.ceil(disk.capacityBytes / 512) * 512, source?.sizeBytes ?? 0);
    const image = await make(target, sizeBytes);
    try {
      const progress = (done: number) => options.progress?.(step, done / source!.sizeBytes);
      if (source !== undefined) await copyImage(source, image, { progress, ...pick(options.signal) });
      await image.flush();
    } finally {
      await image.close();
    }
    return sizeBytes;
  } finally {
    await source?.close();
  }
}

function pick(signal: AbortSignal | undefined): { signal?: AbortSignal } {
  return signal === undefined ? {} : { signal };
}

async function openDisk(archive: Archive, name: string): Promise<Image> {
  const store = await archive.open(name);
  try {
    const open = IMPORT_FORMATS.get((await probeImport(store)) ?? "raw");
    // An export has whole disks.
    const image = async () => Promise.reject(refusal(store, "a disk of an appliance stands alone"));
    const neighbours = { file: (other: string) => archive.open(other), names: async () => [], image };
    return open === undefined ? new RawImage(store) : await open(store, neighbours);
  } catch (error) {
    await store.close();
    throw error;
  }
}

/** A new image, empty. */
async function make({ file, format, made }: Target, sizeBytes: number): Promise<Image> {
  const store = await HostFile.open(file, { create: true });
  made.push(file);
  try {
    if (format === "qcow2") await createQcow2(store, { sizeBytes });
    else await store.resize(sizeBytes);
  } finally {
    await store.close();
  }
  return await openImage(file, { format });
}

/** A name as files have it, whatever its maker called the machine. */
function fileName(name: string): string {
  const plain = name.replace(/[^A-Za-z0-9._-]+/g, "-").replace(/^[.-]+|-+$/g, "");
  return plain === "" ? "machine" : plain.slice(0, 64);
}
