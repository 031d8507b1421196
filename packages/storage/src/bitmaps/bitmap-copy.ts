/** The bitmaps that an image keeps, taken along into a copy of it. */

import { StorageError } from "../errors.ts";
import type { Image } from "../image.ts";
import { Qcow2Image } from "../qcow2/qcow2-image.ts";
import type { DirtyBitmap } from "./dirty-bitmaps.ts";
import { DiskBitmaps } from "./disk-bitmaps.ts";

export class BitmapCopy {
  /** Those that are worth nothing, as they were not kept, or are too large to be. */
  readonly broken: readonly string[];
  readonly #bitmaps: readonly DirtyBitmap[];

  private constructor(bitmaps: readonly DirtyBitmap[], broken: readonly string[]) {
    this.#bitmaps = bitmaps;
    this.broken = broken;
  }

  static async of(source: Image): Promise<BitmapCopy> {
    if (!(source instanceof Qcow2Image)) {
      const what = `an image of the format ${source.format} keeps no bitmaps: only qcow2 does`;
      throw new StorageError("STORAGE_OPEN", `${source.name}: ${what}`);
    }
    await source.bitmaps.load();
    return new BitmapCopy(
      source.bitmaps.list,
      source.bitmaps.abandoned.map(({ name }) => name),
    );
  }

  /** Before the copy, which they do not follow: gives the target all of them, or none and says why. */
  async begin(target: Image): Promise<void> {
    const disk = new DiskBitmaps(() => target);
    const made: string[] = [];
    try {
      for (const { name, bits } of this.#bitmaps) {
        await disk.add(name, { granularity: bits.granularity, persistent: true, disabled: true });
        made.push(name);
        (await disk.find(name)).bits.merge(bits);
      }
    } catch (cause) {
      for (const name of made) await disk.remove(name);
      throw cause;
    }
  }

  /** After the copy: those that followed the source's writes follow the target's. */
  async end(target: Image): Promise<void> {
    const disk = new DiskBitmaps(() => target);
    for (const { name, enabled } of this.#bitmaps) await disk.enable(name, enabled);
  }
}
