/** What Lodge itself keeps of disks and images: what was built to start machines from, and the disks of those with a name. */

import { readdir, realpath, rm, rmdir, stat, unlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import { StorageError } from "@lodge/storage/terms";
import { VmmError } from "../errors.ts";
import { machineDiskFile, machinesFolder } from "./machine-disk.ts";
import type { ImageRecipe } from "./recipe.ts";
import { imagePlace, RECIPES, readImage } from "./store.ts";

/** In front of a machine's name: images have names of their own. */
const MACHINES = "machines/";

export interface KeptImage {
  /** `debian`, or `machines/web` for a machine's disk; {@link removeKept} takes it. */
  readonly name: string;
  /** For an image whether it is there; a machine's disk is. */
  readonly built: boolean;
  /** What it is of; only images have words. */
  readonly description?: string;
  /** The folder or the file. */
  readonly path?: string;
  /** What the guest sees of the disk, if there is one. */
  readonly diskBytes?: number;
  /** What all of it takes on the host. */
  readonly storedBytes: number;
  /** A machine has the disk open, as its own or below its own. What has no disk is in machines' memory. */
  readonly inUse: boolean;
}

/** All images that can be built, then the disks of the machines, by name. */
export async function keptImages(): Promise<KeptImage[]> {
  const images = await Promise.all(RECIPES.map(keptImage));
  const names = await readdir(machinesFolder()).catch(absent);
  const disks = await Promise.all((names ?? []).toSorted().map(keptDisk));
  return [...images, ...disks.filter((disk) => disk !== undefined)];
}

async function keptImage(recipe: ImageRecipe): Promise<KeptImage> {
  const { name, description } = recipe;
  const link = imagePlace(recipe);
  const image = await readImage(link);
  if (image === undefined) return { name, built: false, description, storedBytes: 0, inUse: false };
  const path = dirname(image.kernel);
  const { disk } = image;
  return {
    name,
    built: true,
    description,
    path,
    ...(disk !== undefined && { diskBytes: (await stat(disk)).size }),
    storedBytes: await stored(path),
    inUse: disk !== undefined && (await isInUse(disk)),
  };
}

async function keptDisk(machine: string): Promise<KeptImage | undefined> {
  const path = machineDiskFile(machine);
  const there = await stat(path).catch(absent);
  if (there === undefined) return undefined;
  const diskBytes = await diskSize(path);
  return {
    name: MACHINES + machine,
    built: true,
    path,
    ...(diskBytes !== undefined && { diskBytes }),
    storedBytes: there.blocks * 512,
    inUse: await isInUse(path),
  };
}

/** Undefined where the image is damaged: it is listed, and can be removed, all the same. */
async function diskSize(path: string): Promise<number | undefined> {
  try {
    const { openImage } = await import("@lodge/storage");
    // Whoever writes it now does not mind.
    const image = await openImage(path, { format: "qcow2", readOnly: true, lock: false, backing: false });
    const { sizeBytes } = image;
    await image.close();
    return sizeBytes;
  } catch (error) {
    if (error instanceof StorageError) return undefined;
    throw error;
  }
}

async function isInUse(file: string): Promise<boolean> {
  return (await import("@lodge/storage")).isImageInUse(file);
}

/** What the files of a folder take on the host. */
async function stored(folder: string): Promise<number> {
  const names = await readdir(folder);
  const stats = await Promise.all(names.map((name) => stat(join(folder, name))));
  return stats.reduce((bytes, { blocks }) => bytes + blocks * 512, 0);
}

/**
 * Removes an image, which can be built again, or a machine's disk with all that is on it. What a machine has open is
 * refused; none can open it meanwhile.
 */
export async function removeKept(name: string): Promise<void> {
  const recipe = RECIPES.find((known) => known.name === name);
  if (recipe !== undefined) await removeImage(recipe);
  else if (name.startsWith(MACHINES)) await removeDisk(name);
  else throw unknown(name, `there is ${RECIPES.map((one) => one.name).join(", ")}, and ${MACHINES}NAME`);
}

async function removeImage(recipe: ImageRecipe): Promise<void> {
  const link = imagePlace(recipe);
  const place = await realpath(link).catch(absent);
  const image = place === undefined ? undefined : await readImage(link);
  if (place === undefined || image === undefined) throw unknown(recipe.name, "it is not built");
  await using _ = image.disk === undefined ? undefined : await held(image.disk);
  // The link first: nobody finds an image that is half there.
  await unlink(link);
  await rm(place, { recursive: true });
}

async function removeDisk(name: string): Promise<void> {
  const machine = name.slice(MACHINES.length);
  const file = machineDiskFile(machine);
  // A name is one step below the folder, not a way out of it.
  const known = await readdir(machinesFolder()).catch(absent);
  if (!known?.includes(machine) || (await stat(file).catch(absent)) === undefined) {
    throw unknown(name, "no machine of this name has a disk");
  }
  await using _ = await held(file);
  await unlink(file);
  // What else a machine keeps there stays.
  await rmdir(dirname(file)).catch(() => {});
}

/** Has an image to itself until it is closed. */
async function held(path: string): Promise<AsyncDisposable> {
  const { HostFile } = await import("@lodge/storage");
  const file = await HostFile.open(path);
  return { [Symbol.asyncDispose]: () => file.close() };
}

function unknown(name: string, why: string): VmmError {
  return new VmmError("VMM_IMAGE", `there is no ${JSON.stringify(name)}: ${why}`);
}

function absent(error: NodeJS.ErrnoException): undefined {
  if (error.code !== "ENOENT" && error.code !== "ENOTDIR") throw error;
}
