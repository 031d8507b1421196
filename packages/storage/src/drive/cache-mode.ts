/** How much a disk leaves to the host's page cache. */

import type { HostFileOptions } from "../file/host-file.ts";

/**
 * - `writeback`: through the host's page cache; lasting when the guest flushes.
 * - `none`: past the page cache (O_DIRECT), with the guest's flushes.
 * - `writethrough`: through the page cache, lasting when a write ends; the guest is told of no cache.
 * - `directsync`: past the page cache, and lasting when a write ends.
 * - `unsafe`: flushes do nothing. A host that fails loses what the guest believes to be safe.
 */
export type CacheMode = "writeback" | "none" | "writethrough" | "directsync" | "unsafe";
export const CACHE_MODES: readonly CacheMode[] = ["writeback", "none", "writethrough", "directsync", "unsafe"];

/** Past the page cache. */
export function isDirect(mode: CacheMode): boolean {
  return mode === "none" || mode === "directsync";
}

/** What is written is lasting without a flush. */
export function writesThrough(mode: CacheMode): boolean {
  return mode === "writethrough" || mode === "directsync";
}

/** How the files of an image are opened where nobody but them knows of the mode. */
export function fileCaching(mode: CacheMode): Pick<HostFileOptions, "direct" | "flushes" | "through"> {
  return { direct: isDirect(mode), through: writesThrough(mode), flushes: mode !== "unsafe" };
}
