/** What a guest's kernel says of its memory (virtio 1.2, 5.5.6.4): entries of u16 tag and u64 value, packed. */

import type { Chain } from "../queue/index.ts";

const ENTRY = 10;
/** Tags, in their order. Amounts are bytes, events are counts since boot. */
const TAGS = [
  "swappedIn",
  "swappedOut",
  "majorFaults",
  "minorFaults",
  "free",
  "total",
  "available",
  "diskCaches",
  "hugePageAllocations",
  "hugePageFailures",
] as const;

/** What the guest did not say is not there. */
export type Statistics = { [K in (typeof TAGS)[number]]?: number };

export function parseStatistics(chain: Chain): Statistics {
  // A driver has an entry for each tag, and may have tags that are newer than this.
  const bytes = new DataView(new ArrayBuffer(Math.min(chain.readableBytes, 4 * TAGS.length * ENTRY)));
  chain.read(0, new Uint8Array(bytes.buffer));
  const statistics: Statistics = {};
  for (let at = 0; at + ENTRY <= bytes.byteLength; at += ENTRY) {
    const name = TAGS[bytes.getUint16(at, true)];
    if (name !== undefined) statistics[name] = Number(bytes.getBigUint64(at + 2, true));
  }
  return statistics;
}
