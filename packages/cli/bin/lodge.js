#!/usr/bin/env node
// Plain JavaScript that old versions of Node parse too, so that they can say what is missing.
const [major, minor] = process.versions.node.split(".").map(Number);
if (major < 24 || (major === 24 && minor < 12)) {
  console.error(
    `lodge: Node ${process.versions.node} is too old: install 24.12 or newer from nodejs.org, or start ./lodge in a clone`,
  );
  process.exit(1);
}
import("../src/start.ts").catch((error) => {
  console.error(process.env.LODGE_DEBUG === "1" ? error : `lodge: ${error.message}`);
  process.exitCode = 1;
});
