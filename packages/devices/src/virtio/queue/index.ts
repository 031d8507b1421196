/** Virtqueues: how driver and device hand each other buffers. */

import type { GuestRam } from "../../ram.ts";
import { PackedQueue, packedAreas } from "./packed.ts";
import type { QueueEvents, QueueLayout, QueuePosition, Virtqueue } from "./queue.ts";
import { SplitQueue, splitAreas } from "./split.ts";

export { Chain, gather, MAX_DESCRIPTORS, part, scatter } from "./chain.ts";
export type { QueueEvents, QueueLayout, QueuePosition } from "./queue.ts";
export { Virtqueue } from "./queue.ts";
export { SplitQueue } from "./split.ts";

/** The largest ring (2.7, 2.8.10). */
export const MAX_QUEUE_SIZE = 32768;

/** A queue as the driver has set it up, or what is wrong with that. With `position` it goes on where it was saved. */
export function openQueue(
  layout: QueueLayout,
  ram: GuestRam,
  events: QueueEvents,
  position?: QueuePosition,
): Virtqueue | string {
  const { size, packed } = layout;
  if (size < 1 || size > MAX_QUEUE_SIZE || (!packed && size & (size - 1))) return `a queue of ${size}`;
  if (packed) {
    const areas = packedAreas(layout, ram);
    return typeof areas === "string" ? areas : new PackedQueue(layout, areas, ram, events, position);
  }
  const areas = splitAreas(layout, ram);
  return typeof areas === "string" ? areas : new SplitQueue(layout, areas, ram, events, position);
}
