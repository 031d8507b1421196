/** Images of other hypervisors, read-only: a format is a map from the disk's bytes to where they lie. */

import { StorageError } from "../errors.ts";
import { cutPieces, fillPieces, type Pieces, scatter } from "../file/pieces.ts";
import type { Extent, Image, Store } from "../image.ts";
import { ReadOnlyStore } from "./read-only.ts";

/** A run of the disk, from the byte that was asked for. */
export type Run =
  | { length: number; kind: "zero" | "absent" }
  | { length: number; kind: "stored"; store: Store; at: number }
  /** Packed bytes; `skip` of what they unpack to come before the run. */
  | { length: number; kind: "packed"; unpack: () => Promise<Uint8Array>; skip: number };

/** Where the disk's bytes are. */
export interface ImageMap {
  /** The first run from `offset` on: one byte at least, `length` at most. The range is inside the disk. */
  locate(offset: number, length: number): Promise<Run>;
}

export interface MappedImageOptions {
  format: string;
  name: string;
  sizeBytes: number;
  map: ImageMap;
  /** What is closed with it. */
  stores: readonly Store[];
  /** What its children know it by; another one after a write. */
  identity?: string | undefined;
  /** What is absent here is there. Closed with it. */
  parent?: MappedImage | undefined;
}

export class MappedImage extends ReadOnlyStore implements Image {
  readonly format: string;
  readonly name: string;
  readonly sizeBytes: number;
  readonly #map: ImageMap;
  readonly #stores: readonly Store[];
  readonly identity: string | undefined;
  readonly #parent: MappedImage | undefined;

  constructor({ format, name, sizeBytes, map, stores, identity, parent }: MappedImageOptions) {
    super();
    this.format = format;
    this.name = name;
    this.sizeBytes = sizeBytes;
    this.#map = map;
    this.#stores = stores;
    this.identity = identity;
    this.#parent = parent;
  }

  protected override async readInside(offset: number, pieces: Pieces, length: number): Promise<void> {
    for (let done = 0; done < length; ) {
      const run = await this.#locate(offset + done, length - done);
      const part = cutPieces(pieces, done, run.length);
      if (run.kind === "stored") await run.store.read(run.at, part);
      else if (run.kind === "packed") await this.#unpack(run, part, offset + done);
      else if (run.kind === "absent" && this.#parent !== undefined) await this.#parent.read(offset + done, part);
      else fillPieces(part, 0);
      done += run.length;
    }
  }

  async status(offset: number, length: number): Promise<Extent> {
    const run = await this.#locate(offset, length);
    const here = { length: run.length, depth: 0, present: run.kind !== "absent" };
    if (run.kind === "stored") {
      // A file of a fixed size has holes too.
      const { length: held, zero, data } = await run.store.status(run.at, run.length);
      return { ...here, length: held, zero, data, offset: run.at, name: run.store.name };
    }
    const parent = this.#parent;
    if (run.kind === "absent" && parent !== undefined && offset < parent.sizeBytes) {
      const below = await parent.status(offset, Math.min(run.length, parent.sizeBytes - offset));
      return { ...below, depth: below.depth + 1 };
    }
    if (run.kind === "packed") return { ...here, zero: false, data: true, compressed: true };
    return { ...here, zero: true, data: false };
  }

  async close(): Promise<void> {
    for (const store of this.#stores) await store.close();
    await this.#parent?.close();
  }

  async #locate(offset: number, length: number): Promise<Run> {
    const run = await this.#map.locate(offset, length);
    if (run.kind === "stored" && run.at + run.length > run.store.sizeBytes) {
      const end = `${run.store.name} has ${run.store.sizeBytes} bytes, and ${run.length} are expected at ${run.at}`;
      throw new StorageError("STORAGE_IO", `${this.name} is damaged at ${offset}: ${end}`);
    }
    return run;
  }

  async #unpack(run: Extract<Run, { kind: "packed" }>, into: Pieces, offset: number): Promise<void> {
    const bytes = await run.unpack();
    if (bytes.length < run.skip + run.length) {
      throw new StorageError("STORAGE_IO", `${this.name} is damaged at ${offset}: its packed data is too short`);
    }
    scatter(bytes.subarray(run.skip, run.skip + run.length), into);
  }
}
