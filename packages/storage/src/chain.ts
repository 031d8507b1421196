/** An image and those below it. */

import { resolve } from "node:path";
import { StorageError } from "./errors.ts";
import type { Image } from "./image.ts";
import { isNbdUri } from "./nbd/client/address.ts";
import { Qcow2Image } from "./qcow2/qcow2-image.ts";

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
