import assert from "node:assert/strict";
import { mkdirSync, mkdtempDisposableSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { breaches, LAYERS, PAGE, PICTURE, picture, shortName } from "./architecture.ts";
import { readPackages } from "./tree.ts";

const root = join(import.meta.dirname, "..");
const packages = readPackages(root);

test("the packages keep to the rules of the house", () => {
  assert.deepEqual(breaches(packages), []);
});

test("docs/architecture.md draws the packages as they are", () => {
  const page = readFileSync(join(root, PAGE), "utf8");
  assert.equal(PICTURE.exec(page)?.[0], picture(packages), "draw it anew: node tools/architecture.ts");
});

test("docs/architecture.md lists every package of the plan in its order, and says which exist", () => {
  const page = readFileSync(join(root, PAGE), "utf8");
  const rows = [...page.matchAll(/^\| `(\w+)`( \(to come\))? +\|/gm)].map(([, name, toCome]) => ({ name, toCome }));
  const existing = packages.map(({ manifest }) => shortName(manifest.name));
  assert.deepEqual(
    rows,
    LAYERS.map((name) => ({ name, toCome: existing.includes(name) ? undefined : " (to come)" })),
  );
});

/** A tree in which nothing is wrong. */
const sound: Record<string, string> = {
  "packages/linux/package.json": `{ "name": "@lodge/linux", "exports": { ".": "./src/index.ts" },
    "dependencies": { "koffi": "1" } }`,
  "packages/linux/src/index.ts": 'import koffi from "koffi";\nimport { readFileSync } from "node:fs";\n',
  "packages/kvm/package.json": `{ "name": "@lodge/kvm", "dependencies": { "@lodge/linux": "1" },
    "devDependencies": { "fast-check": "1" },
    "exports": { ".": "./src/index.ts", "./linux": "./src/linux/index.ts" } }`,
  "packages/kvm/src/index.ts": 'export { a } from "./a.ts";\n',
  "packages/kvm/src/a.test.ts": 'import { test } from "node:test";\nimport fc from "fast-check";\n',
  "packages/kvm/src/linux/index.ts": 'import { mmap } from "@lodge/linux";\nexport { a } from "../a.ts";\n',
  "packages/kvm/conformance/run.ts":
    'import { test } from "node:test";\nimport { open } from "../src/linux/index.ts";\n',
  "packages/softkvm/package.json": `{ "name": "@lodge/softkvm", "dependencies": { "@lodge/kvm": "1" } }`,
  "packages/softkvm/src/index.ts": 'import type { Vm } from "@lodge/kvm";\n',
};

/** The breaches of the sound tree with these files put over it. */
function breachesWith(files: Record<string, string>): string[] {
  using dir = mkdtempDisposableSync(join(tmpdir(), "lodge-architecture-"));
  for (const [path, text] of Object.entries({ ...sound, ...files })) {
    mkdirSync(dirname(join(dir.path, path)), { recursive: true });
    writeFileSync(join(dir.path, path), text);
  }
  return breaches(readPackages(dir.path));
}

test("a sound tree has no breach", () => {
  assert.deepEqual(breachesWith({}), []);
});

const LINUX_ON_KVM =
  '{ "name": "@lodge/linux", "exports": { ".": "" }, "dependencies": { "koffi": "1", "@lodge/kvm": "1" } }';

for (const [what, files, expected] of [
  [
    "an import that goes up the list",
    {
      "packages/linux/package.json": LINUX_ON_KVM,
      "packages/linux/src/up.ts": 'const { a } = await import("@lodge/kvm");\n',
    },
    ["packages/linux/src/up.ts imports @lodge/kvm: imports only go down the list"],
  ],
  [
    "a relative import that leaves its package",
    { "packages/kvm/src/linux/leave.ts": 'export * from "../../../linux/src/index.ts";\n' },
    ["packages/kvm/src/linux/leave.ts imports ../../../linux/src/index.ts: a relative import stays in its package"],
  ],
  [
    "a worker's file in another package",
    { "packages/linux/src/worker.ts": 'new URL("../../kvm/src/a.ts", import.meta.url);\n' },
    ["packages/linux/src/worker.ts imports ../../kvm/src/a.ts: a relative import stays in its package"],
  ],
  [
    "a module of Node in a part that runs in browsers",
    { "packages/kvm/src/a.ts": 'import { readFileSync } from "node:fs";\n' },
    ["packages/kvm/src/a.ts imports node:fs: this part runs in browsers; it may import only what does"],
  ],
  [
    "the Linux implementation in a part that runs in browsers",
    {
      "packages/kvm/src/a.ts": 'import { b } from "./linux/index.ts";\n',
      "packages/kvm/src/b.ts": 'import type { Mapping } from "@lodge/linux";\n',
      "packages/softkvm/src/c.ts": 'import { openKvm } from "@lodge/kvm/linux";\n',
    },
    [
      "packages/kvm/src/a.ts imports ./linux/index.ts: this part runs in browsers, that one does not",
      "packages/kvm/src/b.ts imports @lodge/linux: this part runs in browsers; it may import only what does",
      "packages/softkvm/src/c.ts imports @lodge/kvm/linux: this part runs in browsers; it may import only what does",
    ],
  ],
  [
    "a dependency that is not declared, or for tests only",
    {
      "packages/kvm/src/linux/b.ts": 'import koffi from "koffi";\n',
      "packages/kvm/src/linux/c.ts": 'import fc from "fast-check";\n',
    },
    [
      "packages/kvm/src/linux/b.ts imports koffi: koffi is not among the dependencies of packages/kvm/package.json",
      "packages/kvm/src/linux/c.ts imports fast-check: fast-check is not among the dependencies of packages/kvm/package.json",
    ],
  ],
  [
    "a dependency that nothing imports",
    { "packages/linux/src/index.ts": 'import { readFileSync } from "node:fs";\n', "packages/kvm/src/a.test.ts": "" },
    [
      "packages/kvm/package.json declares fast-check, which no test of it imports",
      "packages/linux/package.json declares koffi, which no source of it imports",
    ],
  ],
  [
    "an entry that is not exported",
    { "packages/kvm/src/linux/b.ts": 'import { b } from "@lodge/linux/src/b.ts";\n' },
    ["packages/kvm/src/linux/b.ts imports @lodge/linux/src/b.ts: @lodge/linux does not export ./src/b.ts"],
  ],
  [
    "a package without a place, or under another name than its folder's",
    {
      "packages/utils/package.json": '{ "name": "@lodge/utils" }',
      "packages/machine/package.json": '{ "name": "@lodge/devices" }',
    },
    [
      "packages/machine: its package is named @lodge/devices",
      "packages/utils: not on the list of tools/architecture.ts; give it its place there",
    ],
  ],
] as const satisfies [string, Record<string, string>, string[]][]) {
  test(`the rules catch ${what}`, () => {
    assert.deepEqual(breachesWith(files), expected);
  });
}
