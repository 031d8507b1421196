/**
 * What the software processor's compilers know of branches (softkvm's wasm/code.ts), and which functions are worth the engine's
 * optimizing compiler at once (wasm/module.ts): these count in this engine only on request. The request is the whole process's, and
 * code that was compiled without it and kept does not count with it, Node's own modules included, which makes a thread take twice
 * as long to come up. So it is made as late as can be, and taken back to keep code.
 */

import { setFlagsFromString } from "node:v8";

export function heedHints(heed = true): void {
  const no = heed ? "" : "no-";
  setFlagsFromString(`--${no}experimental-wasm-branch-hinting`);
  setFlagsFromString(`--${no}experimental-wasm-compilation-hints`);
}
