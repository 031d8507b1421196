/** A folder of image files. */

import { readdir, stat, statfs, unlink } from "node:fs/promises";
import { join } from "node:path";
import { StorageError } from "../errors.ts";
import { HostFile } from "../file/host-file.ts";
import { openImage, openStore, probeFormat } from "../open.ts";
import { createQcow2 } from "../qcow2/create.ts";
import { type Capacity, checkedBytes, checkedName, find, type NewVolume, type Pool, type Volume } from "./pool.ts";

const SECTOR = 512;

export class FolderPool implements Pool {
  readonly kind: "folder" | "network-folder" = "folder";
  readonly folder: string;

  constructor(folder: string) {
    this.folder = folder;
  }

  async start(): Promise<void> {
    await this.#try(async () => {
      if (!(await stat(this.folder)).isDirectory()) throw new Error("it is no folder");
    });
  }

  async stop(): Promise<void> {}

  async capacity(): Promise<Capacity> {
    const { blocks, bavail, bsize } = await this.#try(() => statfs(this.folder));
    return { totalBytes: blocks * bsize, freeBytes: bavail * bsize };
  }

  /** The images in it. What is none, or cannot be read, is no volume. */
  async volumes(): Promise<Volume[]> {
    const entries = await this.#try(() => readdir(this.folder, { withFileTypes: true }));
    const volumes: Volume[] = [];
    for (const entry of entries) {
      if (!entry.isFile() || entry.name.startsWith(".")) continue;
      const volume = await this.#describe(entry.name).catch((error: unknown) => {
        if (error instanceof StorageError) return undefined;
        throw error;
      });
      if (volume !== undefined) volumes.push(volume);
    }
    return volumes.sort((one, other) => (one.name < other.name ? -1 : 1));
  }

  async create(name: string, { sizeBytes, format = "qcow2" }: NewVolume): Promise<Volume> {
    checkedBytes(sizeBytes);
    return await this.#make(name, async (store) => {
      if (format === "qcow2") await createQcow2(store, { sizeBytes });
      else await store.resize(sizeBytes);
    });
  }

  async clone(name: string, newName: string): Promise<Volume> {
    const { sizeBytes, format } = await find(this, name);
    return await this.#make(newName, (store) => createQcow2(store, { sizeBytes, backing: { name, format } }));
  }

  async resize(name: string, sizeBytes: number): Promise<Volume> {
    checkedBytes(sizeBytes);
    const { path, format } = await find(this, name);
    const image = await openImage(path, { format });
    try {
      await image.resize(sizeBytes);
    } finally {
      await image.close();
    }
    return await find(this, name);
  }

  async remove(name: string): Promise<void> {
    const { path } = await find(this, name);
    // Whoever has it open keeps it: it would be gone without a word when he ends.
    await (await HostFile.open(path)).close();
    await this.#try(() => unlink(path));
  }

  async #make(name: string, fill: (store: HostFile) => Promise<void>): Promise<Volume> {
    const path = join(this.folder, checkedName(name));
    const store = await HostFile.open(path, { create: true });
    try {
      await fill(store);
    } catch (error) {
      await unlink(path);
      throw error;
    } finally {
      await store.close();
    }
    return await find(this, name);
  }

  async #describe(name: string): Promise<Volume> {
    const path = join(this.folder, name);
    // The sizes are asked for while others use it.
    const store = await openStore(path, { readOnly: true, lock: false });
    const format = await probeFormat(store).finally(() => store.close());
    const image = await openImage(path, { format, readOnly: true, lock: false, backing: false });
    try {
      const { blocks } = await stat(path);
      return { name, path, format, sizeBytes: image.sizeBytes, allocatedBytes: blocks * SECTOR };
    } finally {
      await image.close();
    }
  }

  async #try<T>(attempt: () => Promise<T>): Promise<T> {
    try {
      return await attempt();
    } catch (cause) {
      throw new StorageError("STORAGE_HOST", `${this.folder}: ${(cause as Error).message}`, { cause });
    }
  }
}
