/** What is to be said of an image's bitmaps. */

import type { Qcow2Image } from "../qcow2-image.ts";
import { BitmapFlag, readBitmapDirectory } from "./directory.ts";

export async function bitmapInfo(image: Qcow2Image): Promise<{ flags: string[]; name: string; granularity: number }[]> {
  const directory = await readBitmapDirectory(image.metadata.store, image.header);
  return (directory?.entries ?? []).map(({ name, flags, granularityBits }) => ({
    flags: [...(flags & BitmapFlag.IN_USE ? ["in-use"] : []), ...(flags & BitmapFlag.AUTO ? ["auto"] : [])],
    name,
    granularity: 2 ** granularityBits,
  }));
}
