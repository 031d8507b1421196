/** One virtual machine as a library: images, and (to come with package `machine`) its life. */

export { ACCELERATORS, type Accelerator, type Choice, chooseAccelerator, parseAccelerator } from "./accelerator.ts";
export { parseCount, parseFields, parseSwitch } from "./configuration/fields.ts";
export { formatSize, parseSize } from "./configuration/size.ts";
export { VmmError, type VmmErrorCode } from "./errors.ts";
export { type Image, imagePlace, imageStore, type PrepareOptions, prepareImage, RECIPES } from "./images/store.ts";
