/**
 * The packages as npm packs them: every entry imports on plain Node from a node_modules folder, with its types, and the
 * tree is afterwards as it was. All of it happens in a copy, since packing moves package.json for a moment.
 */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { published, rewriteUrls } from "./publish.ts";
import { type Package, readPackages } from "./tree.ts";

const root = join(import.meta.dirname, "..");
const temporary = mkdtempSync(join(tmpdir(), "lodge-publish-"));
const tree = join(temporary, "tree");
const consumer = join(temporary, "consumer");
let packages: Package[] = [];

// npm finds our Node in the tree's node_modules/.bin by itself, as it does for whoever packs by hand.
function run(command: string, args: string[], cwd: string): string {
  return execFileSync(command, args, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
}

const npm = (args: string[], cwd = tree) => run("npm", [...args, "--ignore-scripts=false", "--loglevel=error"], cwd);
const git = (...args: string[]) => run("git", ["-c", "user.name=test", "-c", "user.email=test@test", ...args], tree);

/** Links what `from/node_modules` has into another one, except for our own packages. */
function linkModules(from: string, to: string): void {
  for (const entry of readdirSync(from)) {
    if (entry.startsWith("@") && entry !== "@lodge") {
      mkdirSync(join(to, entry), { recursive: true });
      linkModules(join(from, entry), join(to, entry));
    } else if (entry !== "@lodge" && !entry.startsWith(".package")) symlinkSync(join(from, entry), join(to, entry));
  }
}

before(() => {
  const files = run("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], root).split("\0");
  for (const file of files.filter((path) => path !== "" && existsSync(join(root, path)))) {
    cpSync(join(root, file), join(tree, file), { recursive: true });
  }
  packages = readPackages(tree);
  mkdirSync(join(tree, "node_modules/@lodge"), { recursive: true });
  linkModules(join(root, "node_modules"), join(tree, "node_modules"));
  for (const { folder, manifest } of packages) {
    symlinkSync(join("../..", folder), join(tree, "node_modules", manifest.name));
  }
  git("init", "--quiet");
  git("add", "--all");
  git("commit", "--quiet", "--message=copy");
});

after(() => rmSync(temporary, { recursive: true }));

/** `@lodge/kvm` 0.1.0 → `lodge-kvm-0.1.0.tgz`. */
const tarball = ({ manifest }: Package) => `lodge-${manifest.name.slice("@lodge/".length)}-${manifest.version}.tgz`;

/** A tarball holds compiled files, the license and package.json, and nothing else. */
function checkTarball(file: string): void {
  const listed = run("tar", ["-tzf", file], tree).trimEnd().split("\n");
  assert.deepEqual(
    listed.filter((path) => path !== "package/package.json" && !path.startsWith("package/dist/")),
    [],
  );
  assert.ok(listed.includes("package/dist/LICENSE"));
  assert.deepEqual(
    listed.filter((path) => path.includes(".test.") || (path.endsWith(".ts") && !path.endsWith(".d.ts"))),
    [],
  );
}

test("npm pack in a package's folder leaves a tarball, and the tree as it was; an interrupted build is taken back", () => {
  const one = packages.find(({ manifest }) => manifest.name === "@lodge/linux")!;
  run(process.execPath, ["../../tools/publish.ts", "build"], join(tree, one.folder));
  assert.notEqual(git("status", "--porcelain"), "");
  npm(["pack"], join(tree, one.folder));
  checkTarball(join(one.folder, tarball(one)));
  assert.ok(!existsSync(join(tree, one.folder, "dist")));
  assert.equal(git("status", "--porcelain"), "");
});

test("npm run pack packs all of them, and each entry imports from there on plain Node", async (t) => {
  npm(["run", "pack"]);
  assert.equal(git("status", "--porcelain"), "");
  assert.deepEqual(readdirSync(join(tree, "build")).sort(), packages.map(tarball).sort());
  for (const one of packages) checkTarball(join("build", tarball(one)));

  const modules = join(consumer, "node_modules");
  for (const one of packages) {
    const target = join(modules, one.manifest.name);
    mkdirSync(target, { recursive: true });
    run("tar", ["-xzf", join(tree, "build", tarball(one)), "-C", target, "--strip-components=1"], tree);
    for (const name of Object.keys(one.manifest.dependencies ?? {})) {
      if (name.startsWith("@lodge/") || existsSync(join(modules, name))) continue;
      mkdirSync(dirname(join(modules, name)), { recursive: true });
      symlinkSync(join(root, "node_modules", name), join(modules, name));
    }
  }
  const entries = packages.flatMap(({ manifest }) =>
    Object.keys(manifest.exports ?? {}).map((entry) => manifest.name + entry.slice(1)),
  );
  writeFileSync(join(consumer, "package.json"), '{ "type": "module" }\n');

  for (const entry of entries) {
    await t.test(`import "${entry}"`, () => {
      run(process.execPath, ["--input-type=module", "--eval", `await import("${entry}")`], consumer);
    });
  }

  await t.test("a call goes through to the system", () => {
    const call = 'import { gettid } from "@lodge/linux"; console.log(gettid() === process.pid)';
    assert.equal(run(process.execPath, ["--input-type=module", "--eval", call], consumer), "true\n");
  });

  for (const { manifest } of packages) {
    for (const [name, path] of Object.entries(manifest.bin ?? {})) {
      await t.test(`the ${name} command starts`, () => {
        const installed = JSON.parse(readFileSync(join(modules, manifest.name, "package.json"), "utf8"));
        assert.notEqual(installed.bin[name], path);
        assert.notEqual(
          run(process.execPath, [join(modules, manifest.name, installed.bin[name]), "--help"], consumer),
          "",
        );
      });
    }
  }

  await t.test("files that a Worker is started from are there", () => {
    for (const file of globSync("node_modules/@lodge/*/dist/**/*.js", { cwd: consumer })) {
      const code = readFileSync(join(consumer, file), "utf8");
      for (const [, path] of code.matchAll(/\bnew URL\("(\.[^"]+)", import\.meta\.url/g)) {
        assert.ok(existsSync(join(consumer, dirname(file), path!)), `${file} names ${path}`);
      }
    }
  });

  await t.test("the types resolve", () => {
    const lines = entries.map((entry, index) => `export type * as entry${index} from "${entry}";\n`);
    const call = 'import { gettid } from "@lodge/linux";\nexport const tid: number = gettid();\n';
    writeFileSync(join(consumer, "types.ts"), lines.join("") + call);
    symlinkSync(join(root, "node_modules/@types"), join(modules, "@types"));
    // Without the DOM's types, and with declarations checked: what a program on Node has.
    const options = ["--strict", "--noEmit", "--module", "nodenext", "--target", "es2024", "--lib", "es2024,esnext"];
    run(join(root, "node_modules/.bin/tsc"), [...options, "--types", "node", "types.ts"], consumer);
  });
});

test("a published package.json points to dist/ and keeps the rest", () => {
  const source = {
    name: "@lodge/x",
    files: ["src"],
    exports: { ".": "./src/index.ts", "./y": "./src/y/index.ts" },
    bin: { x: "bin/x.js" },
    dependencies: { koffi: "1" },
    devDependencies: { test: "1" },
  };
  assert.deepEqual(published(source), {
    name: "@lodge/x",
    files: ["dist"],
    exports: {
      ".": { types: "./dist/src/index.d.ts", default: "./dist/src/index.js" },
      "./y": { types: "./dist/src/y/index.d.ts", default: "./dist/src/y/index.js" },
    },
    bin: { x: "./dist/bin/x.js" },
    dependencies: { koffi: "1" },
  });
});

test("a Worker's file is renamed as imports are, and no other URL", () => {
  assert.equal(
    rewriteUrls('new Worker(new URL("./vcpu.ts", import.meta.url)); new URL("x.ts", base);'),
    'new Worker(new URL("./vcpu.js", import.meta.url)); new URL("x.ts", base);',
  );
});
