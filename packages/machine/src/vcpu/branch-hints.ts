/**
 * What the software processor's compiler knows of branches (softkvm's wasm/code.ts): it counts in this engine only on request. The
 * request is the whole process's, and code that was compiled without it and kept does not count with it, Node's own modules
 * included, which makes a thread take twice as long to come up. So it is made as late as can be, and taken back to keep code.
 */

import { setFlagsFromString } from "node:v8";

export function heedBranchHints(heed = true): void {
  setFlagsFromString(`--${heed ? "" : "no-"}experimental-wasm-branch-hinting`);
}
