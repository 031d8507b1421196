/** Reads that send holes as such: a sparse disk crosses the network as what it has. */

import type { Store } from "../../image.ts";
import { settled } from "../../settled.ts";
import type { ReadBuffers } from "./read-buffers.ts";
import type { Replies } from "./replies.ts";

/** A shorter read is read: asking costs more than sending. */
const WORTH_ASKING_BYTES = 32 << 10;
/** A read with more runs than this is sent as data from there on. */
const MAX_RUNS = 64;

interface Run {
  offset: number;
  length: number;
  zero: boolean;
}

export async function sparseRead(
  store: Store,
  replies: Replies,
  buffers: ReadBuffers,
  { cookie, offset, length }: { cookie: Buffer; offset: number; length: number },
): Promise<void> {
  const runs = await plan(store, offset, length);
  const parts = runs.map((run) => ({ ...run, data: run.zero ? undefined : buffers.take(run.length) }));
  try {
    // Everything is read before anything is sent: an error then is the whole reply.
    await settled(parts.map(({ offset, data }) => data && store.read(offset, [data])));
    await settled(
      parts.map(({ offset, length, data }, index) => {
        const last = index === parts.length - 1;
        return data === undefined
          ? replies.hole(cookie, offset, length, last)
          : replies.data(cookie, offset, data, last);
      }),
    );
  } finally {
    for (const { data } of parts) if (data !== undefined) buffers.give(data);
  }
}

/** The read as runs of zeros and of data, in order and without gaps. */
async function plan(store: Store, offset: number, length: number): Promise<Run[]> {
  if (length < WORTH_ASKING_BYTES) return [{ offset, length, zero: false }];
  const runs: Run[] = [];
  for (let done = 0; done < length; ) {
    const left = length - done;
    const extent = runs.length < MAX_RUNS ? await store.status(offset + done, left) : { zero: false, length: left };
    const last = runs.at(-1);
    if (last !== undefined && last.zero === extent.zero) last.length += extent.length;
    else runs.push({ offset: offset + done, length: extent.length, zero: extent.zero });
    done += extent.length;
  }
  return runs;
}
