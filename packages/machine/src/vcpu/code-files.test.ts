import assert from "node:assert/strict";
import { mkdtempDisposableSync, readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { CodeFiles } from "./code-files.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const text = (found: Uint8Array | undefined) => found && new TextDecoder().decode(found);

test("what was kept comes back, to the same version only", () => {
  using directory = mkdtempDisposableSync(join(tmpdir(), "lodge-code-"));
  const files = new CodeFiles(join(directory.path, "code"));
  assert.equal(files.get("key"), undefined);
  files.keep("key", bytes("translations"));
  assert.equal(text(new CodeFiles(join(directory.path, "code")).get("key")), "translations");
  assert.equal(files.get("another key"), undefined);
  assert.equal(new CodeFiles(join(directory.path, "code"), "another version").get("key"), undefined);
  files.drop("key");
  assert.equal(files.get("key"), undefined);
  assert.deepEqual(readdirSync(join(directory.path, "code")), []);
});

test("a file that was damaged or cut off is none, and goes", () => {
  using directory = mkdtempDisposableSync(join(tmpdir(), "lodge-code-"));
  const files = new CodeFiles(directory.path);
  for (const damage of [
    (file: string) =>
      writeFileSync(
        file,
        readFileSync(file).map((byte, index) => (index === 40 ? byte ^ 1 : byte)),
      ),
    (file: string) => truncateSync(file, 43),
    (file: string) => truncateSync(file, 7),
    (file: string) => truncateSync(file, 0),
  ]) {
    files.keep("key", bytes("translations"));
    const [name] = readdirSync(directory.path);
    damage(join(directory.path, name!));
    assert.equal(files.get("key"), undefined);
    assert.deepEqual(readdirSync(directory.path), []);
  }
});

test("the last four that were used stay", () => {
  using directory = mkdtempDisposableSync(join(tmpdir(), "lodge-code-"));
  const files = new CodeFiles(directory.path);
  for (let number = 0; number < 6; number++) files.keep(`key ${number}`, bytes("translations"));
  assert.equal(readdirSync(directory.path).length, 4);
  assert.equal(text(files.get("key 5")), "translations");
});
