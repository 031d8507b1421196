/** Images that hold the changes to another: finding that other one, and being sure that it is the one. */

import type { Store } from "../image.ts";
import { refusal } from "./format.ts";
import type { MappedImage } from "./mapped-image.ts";

/** Finds images in the folder of the one that is opened. */
export interface Neighbours {
  /** Opens a file of the same image, by the name that its first has for it. */
  file(name: string): Promise<Store>;
  /** Opens an image of the same format. */
  image(name: string): Promise<MappedImage>;
  /** What files there are. */
  names(): Promise<string[]>;
}

/** A sector bitmap's bits, whose order differs between formats. */
export type HasBit = (bytes: Buffer, index: number) => boolean;

/**
 * The last part of a path that came with the image, from whatever system: it is looked for beside the image, as the path
 * may name any file of this host.
 */
export function fileName(path: string): string {
  return path.slice(Math.max(path.lastIndexOf("/"), path.lastIndexOf("\\")) + 1);
}

/**
 * Opens the image that `store` holds the changes to, by the first of the `paths` that names a file in the folder.
 * `identity` is what the parent must be: where it was written since, the changes no longer fit.
 */
export async function openParent(
  store: Store,
  neighbours: Neighbours,
  paths: readonly string[],
  identity: readonly string[],
): Promise<MappedImage> {
  const there = new Set(await neighbours.names());
  const candidates = [...new Set(paths.map(fileName))].filter((name) => name !== "");
  const name = candidates.find((candidate) => there.has(candidate));
  if (name === undefined) {
    const which =
      candidates.length === 0 ? "whose name it does not say" : candidates.map((one) => `"${one}"`).join(" or ");
    throw refusal(store, `it holds the changes to another image, ${which}, which has to be in the same folder`);
  }
  const parent = await neighbours.image(name);
  if (parent.identity !== undefined && identity.includes(parent.identity)) return parent;
  await parent.close();
  const is = parent.identity ?? "unknown";
  const why = `its identity is ${is} instead of ${identity.join(" or ")}`;
  throw refusal(store, `${parent.name} is not what it holds the changes to, or was written since: ${why}`);
}

/** How many bits from `index` on, `most` at most, are as the first one is; and which that is. */
export function equalBits(bytes: Buffer, index: number, most: number, has: HasBit): { set: boolean; count: number } {
  const set = has(bytes, index);
  let count = 1;
  while (count < most && has(bytes, index + count) === set) count += 1;
  return { set, count };
}
