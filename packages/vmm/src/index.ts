/** One virtual machine as a library: images, and (to come with package `machine`) its life. */

export { VmmError, type VmmErrorCode } from "./errors.ts";
export { type Image, imageStore, type PrepareOptions, prepareImage, RECIPES } from "./images/store.ts";
