/** Modules as this loader and as Node load them; what is kept of them; what the threads of a machine keep. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempDisposableSync, readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Script } from "node:vm";
import { type Kept, KeptModules } from "./kept.ts";
import { asFunction } from "./rewrite.ts";

const LOADER = join(import.meta.dirname, "loader.ts");
const PACKAGES = join(import.meta.dirname, "../../..");

/** What a program of a process of its own says, as JSON: it has `load`, and keeps what it compiled in the folder. */
function inProcess(folder: string, program: string): unknown {
  const script = `
    const { beginLoading, keepCompiled, load } = require(${JSON.stringify(LOADER)});
    beginLoading({ folder: ${JSON.stringify(folder)}, set: "test" });
    process.once("exit", keepCompiled);
    const say = (value) => console.log(JSON.stringify(value));
    ${program}
  `;
  const { stdout, stderr, status } = spawnSync(process.execPath, ["-e", script], { encoding: "utf8" });
  assert.deepEqual({ stderr, status }, { stderr: "", status: 0 });
  return JSON.parse(stdout);
}

function temporary(t: { after(end: () => void): void }): string {
  const folder = mkdtempDisposableSync(join(tmpdir(), "lodge-modules-"));
  t.after(() => folder.remove());
  return folder.path;
}

/** The files that are kept, with what they hold. */
function kept(folder: string): Map<string, Buffer> {
  const found = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) => /\/test-\w+$/.test(name));
  return new Map(found.map((name) => [join(folder, name), readFileSync(join(folder, name))]));
}

test("imports and exports of every form, on the lines where they were", () => {
  const text = `import one, { two as second, type Three } from "./a.ts";
import * as all from "./b.ts";
import type { Four } from "./c.ts";
import "./d.ts";
import {
  five,
} from "./e.ts";
export type { Four };
export * from "./f.ts";
export { six, type Seven, eight as nine } from "./g.ts";
export const ten: Three = one;
export async function eleven() { return (await import("./h.ts")).default; }
export function* twelve() {}
export abstract class Thirteen {}
const fourteen = () => import.meta.url + second + all.b + five;
export { fourteen, ten as fifteen };
export const line = new Error().stack;
`;
  const used: string[] = [];
  const modules: Record<string, Record<string, unknown>> = {
    "./a.ts": { default: "one", two: "2" },
    "./b.ts": { b: "b" },
    "./d.ts": {},
    "./e.ts": { five: "5" },
    "./f.ts": { sixteen: 16 },
    "./g.ts": { six: 6, eight: 8 },
    "./h.ts": { default: "late" },
  };
  const use = (name: string) => {
    used.push(name);
    return modules[name];
  };
  const body = new Script(asFunction(text, true), { filename: "text.ts" }).runInThisContext();
  const exported = body(
    use,
    (name: string) => use(name)?.default,
    async (name: string) => use(name),
    { url: "u" },
  );
  assert.deepEqual(
    used,
    ["a", "a", "b", "d", "e", "f"].map((name) => `./${name}.ts`),
  );
  assert.deepEqual(Object.keys(exported).sort(), [
    "Thirteen",
    "eleven",
    "fifteen",
    "fourteen",
    "line",
    "nine",
    "six",
    "sixteen",
    "ten",
    "twelve",
  ]);
  assert.deepEqual([exported.ten, exported.nine, exported.fifteen, exported.fourteen()], ["one", 8, "one", "u2b5"]);
  assert.match(exported.line, /text\.ts:17:/);
});

test("the packages' entries have the same exports as by Node's loader", (t) => {
  const entries = readdirSync(PACKAGES).flatMap((name) => {
    const { exports = {} } = JSON.parse(readFileSync(join(PACKAGES, name, "package.json"), "utf8"));
    return Object.values<string>(exports).map((path) => join(PACKAGES, name, path));
  });
  assert.ok(entries.length > 20);
  const found = inProcess(
    temporary(t),
    `(async () => {
      const differ = [];
      for (const path of ${JSON.stringify(entries)}) {
        const names = (of) => Object.entries(of).map(([name, value]) => name + " " + typeof value).sort().join();
        const [ours, nodes] = [names(load(path)), names(await import(path))];
        if (ours !== nodes) differ.push([path, ours, nodes]);
      }
      say(differ);
    })();`,
  );
  assert.deepEqual(found, []);
});

test("what was compiled is used again; a source that has changed is not, and a damaged file is none", (t) => {
  const folder = temporary(t);
  const [first, second] = ["first.ts", "second.ts"].map((name) => join(folder, name));
  mkdirSync(join(folder, "kept"));
  writeFileSync(first!, 'import { word } from "./second.ts";\nexport const said = (): string => word + " 🙂";\n');
  writeFileSync(second!, 'export const word: string = "one";\n');
  const run = () => inProcess(join(folder, "kept"), `say(load(${JSON.stringify(first)}).said());`);
  assert.equal(run(), "one 🙂");
  const [[file, before]] = [...kept(folder)] as [[string, Buffer]];
  // As bytes: Buffer looks for UTF-16 at even places only, and where it lies follows from how long the paths are.
  assert.ok(before.includes(Buffer.from("\ud83d\ude42", "utf16le")));
  assert.equal(run(), "one 🙂");
  assert.deepEqual(kept(folder), new Map([[file, before]]));
  writeFileSync(second!, 'export const word: string = "another";\n');
  assert.equal(run(), "another 🙂");
  assert.notDeepEqual(kept(folder).get(file), before);
  // How long it is differs by some bytes from run to run.
  const whole = (content: Buffer) => content.length === 8 + content.readUInt32LE(0) + content.readUInt32LE(4);
  for (const left of [(bytes: number) => bytes - 1, () => 5, () => 0]) {
    truncateSync(file, left(kept(folder).get(file)!.length));
    assert.equal(run(), "another 🙂");
    assert.ok(whole(kept(folder).get(file)!));
  }
});

test("what is kept stays what it is when more is added, also where it is longer than what is read at once", (t) => {
  const folder = temporary(t);
  const open = () => KeptModules.open(folder, "test", "/packages/");
  const module = (index: number): Kept => ({
    ...{ path: `/packages/${index}.ts`, mtimeMs: index + 0.5, bytes: 100 + index },
    ...{ code: `${index} `.repeat(9000 + index), compiled: new Uint8Array(50_001 + index).fill(index) },
  });
  const all = Array.from({ length: 12 }, (_, index) => module(index));
  for (const part of [all.slice(0, 9), all.slice(9, 11), all.slice(11)]) open().add(part);
  const found = open();
  for (const { path, mtimeMs, bytes, code, compiled } of all) {
    const known = found.get(path, mtimeMs, bytes)!;
    assert.ok(known.code === code && Buffer.compare(known.compiled, compiled) === 0, path);
  }
});

test("an error names the source's line, also of what was kept; a module that fails and a circle of imports are errors", (t) => {
  const folder = temporary(t);
  const [fails, circle] = ["fails.ts", "circle.ts"].map((name) => join(folder, name));
  writeFileSync(
    fails!,
    'interface A {\n  b: string;\n}\nexport function fail(a?: A) {\n  throw new Error("it", { cause: a });\n}\n',
  );
  writeFileSync(circle!, 'import "./circle.ts";\n');
  const run = () =>
    inProcess(
      folder,
      `const said = (run) => { try { run(); } catch (error) { return error.stack.split("\\n").slice(0, 2); } };
      say([said(() => load(${JSON.stringify(fails)}).fail()), said(() => load(${JSON.stringify(circle)}))]);`,
    );
  for (const [error, circular] of [run(), run()] as [string[], string[]][]) {
    assert.match(error[1]!, /fails\.ts:5:9\)$/);
    assert.equal(circular[0], `SyntaxError: ${circle}: an import of it leads back to it`);
  }
});
