import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { basename } from "node:path";
import { test } from "node:test";
import { koffi } from "./koffi.ts";

test("is the native part of the koffi that the package asks for, without koffi around it", () => {
  const { dependencies } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));
  assert.equal(koffi.version, dependencies.koffi);
  const { cache } = createRequire(import.meta.url);
  assert.deepEqual(
    Object.keys(cache).map((path) => basename(path)),
    ["koffi.node"],
  );
});
