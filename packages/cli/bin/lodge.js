#!/usr/bin/env node
// Plain JavaScript that old versions of Node parse too, so that they can say what is missing. It stays JavaScript also for
// speed: the first TypeScript that is not in the cache costs 80 ms for Node's compiler.
import * as module from "node:module";
import { userInfo } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { setFlagsFromString } from "node:v8";

/**
 * What commander has from these, got when it is used. Each leads to all that it could need (sockets, argument parsers,
 * reports …): together a quarter of the time that a short command takes.
 */
const COMMANDERS = new Map([
  ["node:child_process", { spawn: (...args) => process.getBuiltinModule("node:child_process").spawn(...args) }],
  [
    "node:util",
    { stripVTControlCharacters: (text) => process.getBuiltinModule("node:util").stripVTControlCharacters(text) },
  ],
]);

const [major, minor] = process.versions.node.split(".").map(Number);
if (major < 24 || (major === 24 && minor < 12)) {
  console.error(
    `lodge: Node ${process.versions.node} is too old: install 24.12 or newer from nodejs.org, or start ./lodge in a clone`,
  );
  process.exit(1);
}

// What is compiled once is kept for the next start: that halves its time and its memory. Where it cannot be written,
// starting is slower and nothing else.
const folder = cacheFolder();
if (folder !== undefined) module.enableCompileCache(folder);

// Where ./lodge has bounded this thread's young objects: the vCPUs' threads have the engine's own bounds.
setFlagsFromString("--max-semi-space-size=0");

import("@lodge/machine/modules")
  .then(({ beginLoading, keepCompiled, load, loadNamed }) => {
    const args = process.argv.slice(2);
    beginLoading({ folder, set: set(args[0]), guest: { name: "commander", instead: COMMANDERS } });
    process.once("exit", () => keepCompiled(true));
    // It takes longer to come up than this one to know what it is for.
    if (startsMachine(args)) loadNamed("@lodge/machine/ahead").startThreadAhead();
    return load(fileURLToPath(new URL("../src/main.ts", import.meta.url))).main(args);
  })
  .then(() => {
    // Such a command is over with its work, and all it has written is out: taking the engine apart would take 15 ms.
    if (process.argv[2] === "image") process.exit();
  })
  .catch((error) => {
    console.error(process.env.LODGE_DEBUG === "1" ? error : `lodge: ${error.message}`);
    process.exitCode = 1;
  });

/** Commands of one name load much the same. */
function set(name) {
  return ["disk", "image", "info", "nbd", "net", "run"].includes(name) ? name : "help";
}

/** What stands behind `--` is a command of the guest, whatever it looks like. */
function startsMachine(args) {
  const cut = args.indexOf("--");
  const own = cut < 0 ? args : args.slice(0, cut);
  return args[0] === "run" && !own.includes("--help") && !own.includes("-h");
}

/** Of this user alone: code that lies where others write is not run. */
function cacheFolder() {
  try {
    return join(process.env.XDG_CACHE_HOME || join(userInfo().homedir, ".cache"), "lodge", "compiled");
  } catch {
    // A user that the system has no name for.
    return undefined;
  }
}
