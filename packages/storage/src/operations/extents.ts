/** How a whole image is held. */

import type { Extent, Image } from "../image.ts";

/** One after the other, as they are stored: what is held alike may still come in several pieces. */
export async function* extentsOf(
  image: Image,
  end = image.sizeBytes,
  start = 0,
): AsyncGenerator<Extent & { start: number }> {
  for (let at = start; at < end; ) {
    const extent = await image.status(at, end - at);
    yield { ...extent, start: at };
    at += extent.length;
  }
}

/** The same with neighbours joined, as `qemu-img map` tells it. */
export async function* mapImage(
  image: Image,
  end = image.sizeBytes,
  start = 0,
): AsyncGenerator<Extent & { start: number }> {
  let open: (Extent & { start: number }) | undefined;
  for await (const extent of extentsOf(image, end, start)) {
    if (open !== undefined && continues(open, extent)) {
      open = { ...open, length: open.length + extent.length };
      continue;
    }
    if (open !== undefined) yield open;
    open = extent;
  }
  if (open !== undefined) yield open;
}

function continues(one: Extent & { start: number }, next: Extent): boolean {
  const beside = one.offset === undefined ? next.offset === undefined : next.offset === one.offset + one.length;
  const alike = one.zero === next.zero && one.data === next.data && one.present === next.present;
  return beside && alike && one.depth === next.depth && one.name === next.name && one.compressed === next.compressed;
}
