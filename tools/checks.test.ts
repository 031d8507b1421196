/** The formatter, the linter and the compiler find nothing; and the linter would find what it is here for. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempDisposableSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { test } from "node:test";

const root = join(import.meta.dirname, "..");

function run(tool: string, args: string[], cwd = root): { status: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync(join(root, "node_modules/.bin", tool), args, { cwd, encoding: "utf8" });
  return { status, output: stdout + stderr };
}

test("biome finds nothing", () => {
  const { status, output } = run("biome", ["ci", "--colors=off", "."]);
  assert.equal(status, 0, output);
});

test("tsc finds nothing", () => {
  const { status, output } = run("tsc", ["--pretty", "false"]);
  assert.equal(status, 0, output);
});

/** Two packages, one importing the other, with a fault in each file but the first two. */
const workspace = {
  "packages/low/package.json": '{ "name": "@lodge/low", "type": "module", "exports": { ".": "./src/index.ts" } }\n',
  "packages/low/src/index.ts": `export type State = "paused" | "running";

export async function later(): Promise<number> {
  return 1;
}

export class Machine {
  async stop(): Promise<void> {}
}
`,
  "packages/high/src/local-promise.ts": `async function later(): Promise<void> {}

export function forget(): void {
  later();
}
`,
  "packages/high/src/imported-promise.ts": `import { later } from "@lodge/low";

export function forget(): void {
  later();
}
`,
  "packages/high/src/imported-method.ts": `import { Machine } from "@lodge/low";

export function forget(): void {
  new Machine().stop();
}
`,
  "packages/high/src/local-switch.ts": `type State = "paused" | "running";

export function act(state: State, stop: () => void): void {
  switch (state) {
    case "running":
      stop();
      break;
  }
}
`,
  "packages/high/src/imported-switch.ts": `import type { State } from "@lodge/low";

export function act(state: State, stop: () => void): void {
  switch (state) {
    case "running":
      stop();
      break;
  }
}
`,
};

test("the linter catches floating promises and switches that miss a case, across packages too", () => {
  // Not under build/: there the linter would see nothing, as git does.
  using dir = mkdtempDisposableSync(join(tmpdir(), "lodge-checks-"));
  for (const name of ["biome.json", ".gitignore"]) copyFileSync(join(root, name), join(dir.path, name));
  for (const [path, text] of Object.entries(workspace)) {
    mkdirSync(dirname(join(dir.path, path)), { recursive: true });
    writeFileSync(join(dir.path, path), text);
  }
  mkdirSync(join(dir.path, "node_modules/@lodge"), { recursive: true });
  symlinkSync("../../packages/low", join(dir.path, "node_modules/@lodge/low"));

  const { status, output } = run("biome", ["lint", "--colors=off", "--reporter=github", "."], dir.path);
  assert.equal(status, 1);
  const found = [...output.matchAll(/^::error title=([\w/]+),file=([^,]+),/gm)].map(([, rule, file]) => [
    relative(dir.path, file!),
    rule,
  ]);
  assert.deepEqual(found.sort(), [
    ["packages/high/src/imported-method.ts", "lint/nursery/noFloatingPromises"],
    ["packages/high/src/imported-promise.ts", "lint/nursery/noFloatingPromises"],
    ["packages/high/src/imported-switch.ts", "lint/nursery/useExhaustiveSwitchCases"],
    ["packages/high/src/local-promise.ts", "lint/nursery/noFloatingPromises"],
    ["packages/high/src/local-switch.ts", "lint/nursery/useExhaustiveSwitchCases"],
  ]);
});
