/** Waiting for several requests of one whole. */

/** Waits for all, also when one fails: until then memory and clusters are in use. Then the first failure is thrown. */
export async function settled(works: readonly (Promise<unknown> | undefined)[]): Promise<void> {
  if (works.length === 1) {
    await works[0];
    return;
  }
  for (const outcome of await Promise.allSettled(works)) if (outcome.status === "rejected") throw outcome.reason;
}
