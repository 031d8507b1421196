/** Compiled sources do not pile up. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempDisposableSync, readdirSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { tidyCompiledCode } from "./compiled-code.ts";

const DAY_S = 24 * 60 * 60;
const BLOCK = 4096;

test("the longest unused go, and what is too much; not before a day is over", () => {
  using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-compiled-"));
  const now = Date.now() / 1000;
  const put = (engine: string, name: string, days: number) => {
    mkdirSync(join(folder.path, engine), { recursive: true });
    const path = join(folder.path, engine, name);
    writeFileSync(path, Buffer.alloc(BLOCK, 1));
    utimesSync(path, now - days * DAY_S, now - days * DAY_S);
  };
  const left = () =>
    readdirSync(folder.path, { recursive: true, encoding: "utf8" })
      .filter((name) => name !== "looked-at")
      .toSorted();
  put("v1", "old", 31);
  put("v2", "old", 40);
  put("v2", "third", 20);
  put("v2", "second", 10);
  put("v3", "first", 1);
  const bounds = { mostBytes: 2 * BLOCK, longestMs: 30 * DAY_S * 1000 };
  tidyCompiledCode(folder.path, bounds, now * 1000);
  assert.deepEqual(left(), ["v2", "v2/second", "v3", "v3/first"]);

  put("v2", "third", 20);
  tidyCompiledCode(folder.path, bounds, (now + DAY_S / 2) * 1000);
  assert.equal(left().length, 5);
  tidyCompiledCode(folder.path, bounds, (now + 2 * DAY_S) * 1000);
  assert.deepEqual(left(), ["v2", "v2/second", "v3", "v3/first"]);
  // Nobody has all.
  tidyCompiledCode(folder.path, bounds, (now + 60 * DAY_S) * 1000);
  assert.deepEqual(left(), []);
});

test("the command looks at what it keeps, and works where there is nothing to be kept", () => {
  using home = mkdtempDisposableSync(join(tmpdir(), "lodge-compiled-"));
  const lodge = join(import.meta.dirname, "../bin/lodge.js");
  const run = (cache: string) =>
    spawnSync(process.execPath, [lodge, "--version"], { encoding: "utf8", env: { XDG_CACHE_HOME: cache } });
  const compiled = join(home.path, "lodge", "compiled");
  mkdirSync(join(compiled, "of another engine"), { recursive: true });
  const old = join(compiled, "of another engine", "old");
  writeFileSync(old, "");
  utimesSync(old, 1, 1);
  assert.deepEqual([run(home.path).stderr, run(home.path).status], ["", 0]);
  assert.equal(statSync(old, { throwIfNoEntry: false }), undefined);
  assert.ok(readdirSync(compiled).some((name) => name.startsWith("v")));
  assert.deepEqual([run("/dev/null").stderr, run("/dev/null").status], ["", 0]);
});
