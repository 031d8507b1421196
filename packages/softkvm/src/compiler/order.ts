/**
 * A region to be compiled by another thread: all that writing it takes, as what threads can send each other. The blocks' bytes are
 * a copy, so that what the guest writes meanwhile makes no difference; whether the region is still that of the guest's code is
 * asked when it comes back.
 */

import type { Block } from "../interpreter/block.ts";
import type { RegionOrder } from "./compile-thread.ts";
import type { RegionPlan } from "./region.ts";

/** Places are whole numbers of up to 33 bits; NaN where there is none. */
export const Field = {
  host: 0,
  length: 1,
  mode: 2,
  record: 3,
  count: 4,
  taken: 5,
  fallThrough: 6,
  returns: 7,
  distance: 8,
} as const;
export const FIELDS = 9;

export function orderOf(
  { slot, seeds, members }: RegionPlan,
  base: number,
  blocks: { readonly features: readonly string[] | undefined; codeOf(block: Block): Uint8Array },
): RegionOrder {
  const fields = new Float64Array(members.length * FIELDS);
  const code = new Uint8Array(members.reduce((sum, { block }) => sum + block.length, 0));
  let at = 0;
  for (const [index, { block, distance }] of members.entries()) {
    const { host, length, mode, record, count, edges } = block;
    const { taken = Number.NaN, fallThrough = Number.NaN, returns = Number.NaN } = edges;
    fields.set([host, length, mode, record, count, taken, fallThrough, returns, distance], index * FIELDS);
    code.set(blocks.codeOf(block), at);
    at += length;
  }
  const numberOf = (block: Block) => members.findIndex((member) => member.block === block);
  const pairs = seeds.flatMap(({ block, isLoose }) => [numberOf(block), isLoose ? 1 : 0]);
  const { features } = blocks;
  return { base, slot, features, members: fields, seeds: Int32Array.from(pairs), code };
}
