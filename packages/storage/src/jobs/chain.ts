/** The images below a running disk: finding them, opening one to be written, and what an image is to call another. */

import { dirname, resolve } from "node:path";
import type { Drive } from "../drive/drive.ts";
import { StorageError } from "../errors.ts";
import type { Image } from "../image.ts";
import { isNbdUri } from "../nbd/client/address.ts";
import { backingPath, openImage } from "../open.ts";
import { Qcow2Image } from "../qcow2/qcow2-image.ts";
import { setBacking } from "../qcow2/resize.ts";

/** The disk's images, from the one that is written down. */
export function chainOf(image: Image): Image[] {
  const chain = [image];
  for (let at: Image | undefined = image; at instanceof Qcow2Image; at = at.backing) {
    if (at.backing !== undefined) chain.push(at.backing);
  }
  return chain;
}

/** Where in the chain the image of this name is. */
export function indexOf(chain: readonly Image[], name: string): number {
  const path = (one: string) => (isNbdUri(one) ? one : resolve(one));
  const index = chain.findIndex((image) => path(image.name) === path(name));
  if (index >= 0) return index;
  const names = chain.map((image) => image.name).join(", ");
  throw new StorageError("STORAGE_OPEN", `${name} is no image of the disk: these are ${names}`);
}

/** The image above the one of this index, which has to be qcow2. */
export function above(chain: readonly Image[], index: number): Qcow2Image {
  const image = chain[index - 1];
  if (image instanceof Qcow2Image) return image;
  throw new StorageError("STORAGE_OPEN", `${chain[index]!.name}: no image stands on it`);
}

/**
 * Opens an image's backing image anew, to be written or no longer. Requests that come meanwhile wait. If it cannot be
 * written it is as it was.
 */
export function reopenBacking(drive: Drive, parent: Qcow2Image, readOnly: boolean): Promise<Image> {
  return parent.gate.alone(async () => {
    const { name, format } = parent.backing!;
    await parent.backing!.close();
    try {
      parent.backing = await openImage(name, { ...drive.opening, format, readOnly });
    } catch (cause) {
      parent.backing = await openImage(name, { ...drive.opening, format, readOnly: true });
      throw cause;
    }
    return parent.backing;
  });
}

/**
 * Has `overlay` stand on the image of `index`, or on nothing, in its file and as it runs; the images between are closed.
 * What it reads as must be the same.
 */
export async function cutChain(drive: Drive, overlay: Qcow2Image, index: number | undefined): Promise<void> {
  const chain = chainOf(drive.image);
  const base = index === undefined ? undefined : chain[index];
  const last = index === undefined ? undefined : above(chain, index);
  if (last === overlay) return;
  const named = last === undefined ? undefined : referenceFrom(overlay, last);
  const goOn = async () => {
    const first = overlay.backing;
    if (last !== undefined) last.backing = undefined;
    overlay.backing = base;
    await first?.close();
  };
  if (overlay.readOnly) {
    await storeBacking(overlay, named);
    await overlay.gate.alone(goOn);
    return;
  }
  await overlay.alone(async () => {
    await setBacking(overlay, named);
    await goOn();
  });
}

/** What `overlay` calls the image that `last` stands on: a relative name is one in its own folder. */
function referenceFrom(overlay: Qcow2Image, last: Qcow2Image): { name: string; format: string } {
  const { name, format } = last.header.backing!;
  const path = backingPath(last.name, name);
  const stays = dirname(overlay.name) === dirname(last.name) || isNbdUri(path);
  return { name: stays ? name : resolve(path), format: format! };
}

/** Writes the header of an image that is open to be read; the locks of whoever reads it keep others from writing it. */
async function storeBacking(overlay: Qcow2Image, named: { name: string; format: string } | undefined): Promise<void> {
  const image = await openImage(overlay.name, { format: "qcow2", backing: false, lock: false });
  try {
    if (image instanceof Qcow2Image) await image.alone(() => setBacking(image, named));
  } finally {
    await image.close();
  }
  if (named === undefined) delete overlay.header.backing;
  else overlay.header.backing = named;
}
