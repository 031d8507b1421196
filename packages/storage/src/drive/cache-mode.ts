/** How much a disk leaves to the host's page cache. */

/**
 * - `writeback`: through the host's page cache; lasting when the guest flushes.
 * - `none`: past the page cache (O_DIRECT), with the guest's flushes.
 * - `writethrough`: through the page cache, lasting when a write ends; the guest is told of no cache.
 * - `unsafe`: flushes do nothing. A host that fails loses what the guest believes to be safe.
 */
export type CacheMode = "writeback" | "none" | "writethrough" | "unsafe";
export const CACHE_MODES: readonly CacheMode[] = ["writeback", "none", "writethrough", "unsafe"];
