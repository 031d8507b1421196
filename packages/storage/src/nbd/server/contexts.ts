/** What NBD clients may ask of each byte beside its content: metadata contexts. */

import { StorageError } from "../../errors.ts";
import type { Extent, Image, Store } from "../../image.ts";
import { Bitmap } from "../../qcow2/bitmaps/read-bitmap.ts";
import { Qcow2Image } from "../../qcow2/qcow2-image.ts";
import { AllocationFlag, BASE_ALLOCATION } from "../protocol.ts";
import type { MetaContext, StatusExtent } from "./export.ts";

/** Extents are told apart by flags alone, so neighbours with the same flags are one; this bounds the search for its end. */
const MAX_STEPS = 4096;
/** The longest that an extent's u32 holds, cut to whole blocks. */
const LONGEST = 2 ** 32 - 65536;
/** NBD_STATE_DIRTY, of QEMU's docs/interop/nbd.txt. */
const DIRTY = 1;

/** The specification's own: whether there is storage behind a byte, and whether it reads as zero. */
export function baseAllocation(store: Store): MetaContext {
  return fromStatus(BASE_ALLOCATION, store, ({ data, zero }) => {
    return (data ? 0 : AllocationFlag.HOLE) | (zero ? AllocationFlag.ZERO : 0);
  });
}

/** QEMU's: how far down the backing chain a byte comes from, 1 for this image and 0 where no image has it. */
export function allocationDepth(store: Store): MetaContext {
  return fromStatus("qemu:allocation-depth", store, ({ present, depth }) => (present ? depth + 1 : 0));
}

/** QEMU's: which bytes a persistent bitmap of the image says were written since it was made. */
export async function dirtyBitmap(image: Image, name: string): Promise<MetaContext> {
  if (!(image instanceof Qcow2Image)) {
    throw new StorageError("STORAGE_OPEN", `${image.name}: a ${image.format} image has no bitmaps`);
  }
  // Writing would make the bitmap wrong under its reader.
  if (!image.readOnly) throw new StorageError("STORAGE_OPEN", `${image.name}: bitmaps are told of what is read-only`);
  const bitmap = await Bitmap.open(image, name);
  return inRuns(`qemu:dirty-bitmap:${name}`, async (offset, length) => {
    const run = await bitmap.run(offset, length);
    return { length: run.length, flags: run.set ? DIRTY : 0 };
  });
}

function fromStatus(name: string, store: Store, flagsOf: (extent: Extent) => number): MetaContext {
  return inRuns(name, async (offset, length) => {
    const extent = await store.status(offset, length);
    return { length: extent.length, flags: flagsOf(extent) };
  });
}

/** A context of which the first run is known from every byte on. */
function inRuns(name: string, first: (offset: number, length: number) => Promise<StatusExtent>): MetaContext {
  return {
    name,
    async extents(offset, length, most) {
      const extents: StatusExtent[] = [];
      for (let done = 0, steps = 0; done < length && steps < MAX_STEPS; steps++) {
        const extent = await first(offset + done, Math.min(length - done, LONGEST));
        if (!append(extents, extent, most)) break;
        done += extent.length;
      }
      return extents;
    },
  };
}

/** Adds an extent behind the others; false when there is no room for it. */
function append(extents: StatusExtent[], extent: StatusExtent, most: number): boolean {
  const last = extents.at(-1);
  if (last !== undefined && last.flags === extent.flags && last.length + extent.length <= LONGEST) {
    last.length += extent.length;
    return true;
  }
  if (extents.length === most) return false;
  extents.push(extent);
  return true;
}
