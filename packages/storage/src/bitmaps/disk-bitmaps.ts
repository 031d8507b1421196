/** All bitmaps of a disk, by name: those that its image keeps, and those that are gone with the machine. */

import { StorageError } from "../errors.ts";
import type { Image } from "../image.ts";
import type { PersistentBitmaps } from "../qcow2/bitmaps/persistent.ts";
import { Qcow2Image } from "../qcow2/qcow2-image.ts";
import { type AddBitmapOptions, type DirtyBitmap, DirtyBitmaps, makeBitmap } from "./dirty-bitmaps.ts";

export interface BitmapState {
  readonly name: string;
  readonly granularity: number;
  readonly persistent: boolean;
  readonly enabled: boolean;
  readonly busy: boolean;
  /** Whoever wrote last has not kept it: it can only be removed. */
  readonly abandoned: boolean;
  /** Bytes of the disk that it says were written. */
  readonly dirtyBytes: number;
}

export class DiskBitmaps {
  readonly #image: () => Image;
  readonly #own = new DirtyBitmaps();

  /** `image` is asked each time: a running disk may go on with another. */
  constructor(image: () => Image) {
    this.#image = image;
  }

  /** This range is being written; an image sees to its own bitmaps. */
  mark(offset: number, length: number): void {
    this.#own.mark(offset, length);
  }

  resize(sizeBytes: number): void {
    this.#own.resize(sizeBytes);
  }

  async list(): Promise<BitmapState[]> {
    const kept = await this.#kept();
    const states = [...this.#own.list, ...(kept?.list ?? [])].map(({ name, persistent, enabled, busy, bits }) => ({
      ...{ name, persistent, enabled, busy, abandoned: false },
      granularity: bits.granularity,
      dirtyBytes: bits.dirtyBytes,
    }));
    const abandoned = (kept?.abandoned ?? []).map(({ name, granularity }) => ({
      ...{ name, granularity, persistent: true, enabled: false, busy: false, abandoned: true },
      dirtyBytes: 0,
    }));
    return [...states, ...abandoned];
  }

  async add(name: string, options: AddBitmapOptions = {}): Promise<void> {
    const image = this.#image();
    const known = await this.list();
    const kept = await this.#kept();
    if (options.persistent !== true) {
      this.#own.add(makeBitmap(image.name, name, image.sizeBytes, options, known));
    } else if (kept === undefined) {
      throw this.#refuse(name, `an image of the format ${image.format} keeps no bitmaps: only qcow2 does`);
    } else {
      this.#writable(name);
      kept.add(name, options, known);
    }
  }

  /** One that is no job's now and worth something, to be changed. */
  async find(name: string): Promise<DirtyBitmap> {
    const found = await this.#readable(name);
    if (found.persistent) this.#writable(name);
    return found;
  }

  async #readable(name: string): Promise<DirtyBitmap> {
    const kept = await this.#kept();
    const found = await this.#known(name);
    if (found === undefined) {
      const lost = kept?.abandoned.some((one) => one.name === name);
      const what = "whoever wrote the image last has not kept it: it can only be removed";
      throw this.#refuse(name, lost ? what : "there is none of that name");
    }
    if (found.busy) throw this.#refuse(name, "a block job works with it");
    return found;
  }

  async remove(name: string): Promise<void> {
    const kept = await this.#kept();
    if (kept?.abandoned.some((one) => one.name === name)) {
      this.#writable(name);
      return kept.removeAbandoned(name);
    }
    const bitmap = await this.find(name);
    (bitmap.persistent ? kept! : this.#own).remove(bitmap);
  }

  async clear(name: string): Promise<void> {
    const { bits } = await this.find(name);
    bits.clear(0, bits.sizeBytes);
  }

  async enable(name: string, enabled: boolean): Promise<void> {
    const bitmap = await this.find(name);
    const kept = await this.#kept();
    (bitmap.persistent ? kept! : this.#own).enable(bitmap, enabled);
  }

  /** What is called to have the bitmap of this name, or that there is none, as it is now; the image may be opened anew meanwhile. */
  async remember(name: string): Promise<() => Promise<void>> {
    const before = await this.#known(name);
    const bits = before?.bits.copy();
    const { persistent = false, enabled = true } = before ?? {};
    return async () => {
      if (bits === undefined) {
        if ((await this.#known(name)) !== undefined) await this.remove(name);
        return;
      }
      const { granularity } = bits;
      if ((await this.#known(name)) === undefined) await this.add(name, { granularity, persistent });
      (await this.find(name)).bits = bits;
      await this.enable(name, enabled);
    };
  }

  /** Sets in the bitmap what the others have set, which are this disk's or those of another with the same size. */
  async merge(name: string, sources: readonly string[], disk: DiskBitmaps = this): Promise<void> {
    const target = await this.find(name);
    const from: DirtyBitmap[] = [];
    for (const source of sources) from.push(await disk.#readable(source));
    for (const { bits } of from) {
      if (bits.sizeBytes === target.bits.sizeBytes) continue;
      throw this.#refuse(name, `it is of ${target.bits.sizeBytes} bytes, what is to be merged of ${bits.sizeBytes}`);
    }
    for (const { bits } of from) target.bits.merge(bits);
  }

  async #known(name: string): Promise<DirtyBitmap | undefined> {
    return this.#own.find(name) ?? (await this.#kept())?.list.find((one) => one.name === name);
  }

  async #kept(): Promise<PersistentBitmaps | undefined> {
    const image = this.#image();
    if (!(image instanceof Qcow2Image)) return undefined;
    await image.bitmaps.load();
    return image.bitmaps;
  }

  #writable(name: string): void {
    if (this.#image().readOnly) throw this.#refuse(name, "the image is read-only");
  }

  #refuse(name: string, why: string): StorageError {
    return new StorageError("STORAGE_OPEN", `${this.#image().name}: bitmap ${JSON.stringify(name)}: ${why}`);
  }
}
