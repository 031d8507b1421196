/** Starts the command. What is compiled once is kept for the next start: that halves its time and its memory. */

import { enableCompileCache } from "node:module";
import { userInfo } from "node:os";
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";

/** Of this user alone: code that lies where others write is not run. */
function cacheFolder(): string | undefined {
  try {
    return join(process.env.XDG_CACHE_HOME || join(userInfo().homedir, ".cache"), "lodge", "compiled");
  } catch {
    // A user that the system has no name for.
    return undefined;
  }
}

const folder = cacheFolder();
// Where it cannot be written, starting is slower and nothing else.
if (folder !== undefined) enableCompileCache(folder);

// What the software processor's compiler knows of branches (wasm/code.ts) counts in this engine only on request.
setFlagsFromString("--experimental-wasm-branch-hinting");

const { main } = await import("./main.ts");
await main(process.argv.slice(2));
