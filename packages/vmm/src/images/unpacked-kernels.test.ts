import assert from "node:assert/strict";
import { chmodSync, mkdtempDisposableSync, readdirSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { KernelCache } from "./unpacked-kernels.ts";

const bytes = (text: string) => new TextEncoder().encode(text);

test("what was unpacked once is there for the next machine; the last four that were used stay", () => {
  using directory = mkdtempDisposableSync(join(tmpdir(), "lodge-kernels-"));
  const folder = join(directory.path, "kernels");
  const cache = new KernelCache(folder);
  assert.equal(cache.get(bytes("one")), undefined);
  for (const [index, name] of ["one", "two", "three", "four"].entries()) {
    cache.keep(bytes(name), bytes(`${name} unpacked`));
    const [made] = readdirSync(folder).filter((file) => !seen.has(file));
    seen.add(made!);
    utimesSync(join(folder, made!), index + 1, index + 1);
  }
  assert.deepEqual(new Uint8Array(new KernelCache(folder).get(bytes("one"))!), bytes("one unpacked"));
  cache.keep(bytes("five"), bytes("five unpacked"));
  const there = ["one", "two", "three", "four", "five"].filter((name) => cache.get(bytes(name)) !== undefined);
  assert.deepEqual(there, ["one", "three", "four", "five"], "two was not used for longest");
});
const seen = new Set<string>();

test("what a process left that ended while it wrote goes; a folder that cannot be made is done without", () => {
  using directory = mkdtempDisposableSync(join(tmpdir(), "lodge-kernels-"));
  const folder = join(directory.path, "kernels");
  const cache = new KernelCache(folder);
  cache.keep(bytes("one"), bytes("1"));
  // No process has this number: Linux has 2^22 of them at most.
  writeFileSync(join(folder, "unfinished.99999999"), "half");
  writeFileSync(join(folder, `unfinished.${process.ppid}`), "half of another's");
  cache.keep(bytes("two"), bytes("2"));
  const left = readdirSync(folder).filter((name) => name.startsWith("unfinished."));
  assert.deepEqual(left, [`unfinished.${process.ppid}`]);

  const file = join(directory.path, "file");
  writeFileSync(file, "");
  chmodSync(file, 0o400);
  const none = new KernelCache(join(file, "kernels"));
  none.keep(bytes("one"), bytes("1"));
  assert.equal(none.get(bytes("one")), undefined);
});
