/** What copying an image takes, for the command that does nothing else: each module that is not loaded shortens its start. */

export { CACHE_MODES, type CacheMode, fileCaching } from "./drive/cache-mode.ts";
export { StorageError } from "./errors.ts";
export { openImage } from "./open.ts";
export { copyImage } from "./operations/copy.ts";
export { createImage, removeMade } from "./operations/create.ts";
