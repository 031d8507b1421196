import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, globSync, mkdtempDisposableSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

const root = join(import.meta.dirname, "..");

interface Entry {
  resolved?: string;
  link?: boolean;
  optionalDependencies?: Record<string, string>;
}
const lock: { packages: Record<string, Entry> } = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8"));

test("a fresh clone can be installed: npm ci accepts the lock", () => {
  using dir = mkdtempDisposableSync(join(tmpdir(), "lodge-lock-"));
  for (const path of globSync("{.npmrc,package.json,package-lock.json,packages/*/package.json}", { cwd: root })) {
    cpSync(join(root, path), join(dir.path, path));
  }
  const args = ["ci", "--dry-run", "--offline", "--ignore-scripts", "--loglevel=error"];
  const { status, stderr } = spawnSync("npm", args, { cwd: dir.path, encoding: "utf8" });
  assert.equal(status, 0, stderr);
});

test("the lock names no address of whoever served the packages", () => {
  for (const [path, { resolved, link }] of Object.entries(lock.packages)) {
    assert.ok(resolved === undefined || link === true, `${path} is resolved: ${resolved}`);
  }
});

test("the lock names every platform of what has platforms", () => {
  // npm leaves out what the registry at hand does not carry, and then refuses its own lock elsewhere.
  for (const [path, { optionalDependencies = {} }] of Object.entries(lock.packages)) {
    for (const name of Object.keys(optionalDependencies)) {
      assert.ok(`node_modules/${name}` in lock.packages, `${path || "the root"} wants ${name}, which the lock lacks`);
    }
  }
});
