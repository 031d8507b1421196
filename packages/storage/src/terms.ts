/** What is said of disks also where none is open, so that nothing else of this package has to be loaded for it. */

export { CACHE_MODES, type CacheMode, isDirect, writesThrough } from "./drive/cache-mode.ts";
export type { Limits } from "./drive/throttle.ts";
export { isNoSpace, StorageError } from "./errors.ts";
