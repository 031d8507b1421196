/** Places that hold many disks: what the kinds of them have in common. */

import { StorageError } from "../errors.ts";

/** A disk in a pool. */
export interface Volume {
  readonly name: string;
  /** What `openImage` opens. */
  readonly path: string;
  /** `raw`, `qcow2` … */
  readonly format: string;
  /** What a guest sees. */
  readonly sizeBytes: number;
  /** What it takes of the pool now. */
  readonly allocatedBytes: number;
}

export interface Capacity {
  readonly totalBytes: number;
  readonly freeBytes: number;
}

export interface NewVolume {
  sizeBytes: number;
  /** Where the pool has a choice; `qcow2` in folders, `raw` elsewhere. */
  format?: "raw" | "qcow2";
}

/**
 * All of it fails with a {@link StorageError}: of code `STORAGE_HOST` where a tool of the host is missing or refuses, of
 * `STORAGE_OPEN` where what was asked for cannot be meant.
 */
export interface Pool {
  readonly kind: "folder" | "network-folder" | "lvm" | "lvm-thin" | "device" | "iscsi";
  /** Makes it usable on this host: mounts it, activates it, logs in. Nothing is done twice. */
  start(): Promise<void>;
  /** Takes back what `start` did. */
  stop(): Promise<void>;
  capacity(): Promise<Capacity>;
  volumes(): Promise<Volume[]>;
  create(name: string, volume: NewVolume): Promise<Volume>;
  /** Another disk with the content of this one, which takes no space until they differ. */
  clone(name: string, newName: string): Promise<Volume>;
  resize(name: string, sizeBytes: number): Promise<Volume>;
  remove(name: string): Promise<void>;
}

/** Names become parts of paths and arguments of commands. */
export function checkedName(name: string): string {
  if (/^[A-Za-z0-9][A-Za-z0-9._+-]{0,126}$/.test(name)) return name;
  const rule = "letters, digits and . _ + -, 127 at most, the first a letter or digit";
  throw new StorageError("STORAGE_OPEN", `${JSON.stringify(name)} is no name for a volume: ${rule}`);
}

export function checkedBytes(sizeBytes: number): number {
  if (Number.isSafeInteger(sizeBytes) && sizeBytes > 0 && sizeBytes % 512 === 0) return sizeBytes;
  throw new StorageError("STORAGE_OPEN", `a volume of ${sizeBytes} bytes: it has a multiple of 512`);
}

export async function find(pool: Pool, name: string): Promise<Volume> {
  const volume = (await pool.volumes()).find((one) => one.name === name);
  if (volume === undefined) throw new StorageError("STORAGE_OPEN", `there is no volume ${JSON.stringify(name)}`);
  return volume;
}

/** The capacity of a pool that is its volumes and nothing else. */
export function fullOf(volumes: readonly Volume[]): Capacity {
  return { totalBytes: volumes.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0), freeBytes: 0 };
}

/** For pools that are made elsewhere. */
export function elsewhere(what: string, where: string): never {
  throw new StorageError("STORAGE_OPEN", `${what} is not done from here: ${where}`);
}
