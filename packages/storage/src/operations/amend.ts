/** Changing what an image was made with. */

import { type CacheMode, fileCaching } from "../drive/cache-mode.ts";
import { openStore } from "../open.ts";
import { type AmendOptions, amendQcow2 } from "../qcow2/amend.ts";

/** Changes a qcow2 image at `path`; its content stays the same. */
export async function amendImage(path: string, options: AmendOptions, cache: CacheMode = "writeback"): Promise<void> {
  const store = await openStore(path, fileCaching(cache));
  try {
    await amendQcow2(store, options);
  } finally {
    await store.close();
  }
}
