/** The images below a running disk: opening one to be written, and what an image is to call another. */

import { dirname, resolve } from "node:path";
import { above, chainOf } from "../chain.ts";
import type { Drive } from "../drive/drive.ts";
import type { Image } from "../image.ts";
import { isNbdUri } from "../nbd/client/address.ts";
import { backingPath, openImage } from "../open.ts";
import { Qcow2Image } from "../qcow2/qcow2-image.ts";
import { setBacking } from "../qcow2/resize.ts";

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
