import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempDisposableSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setImmediate } from "node:timers/promises";

const IMPORT = 'import { suite, test } from "node:test";\n';

/** Runs the runner over these files, whose names get `.test.ts`. */
function runner(files: Record<string, string>, ...options: string[]): { status: number | null; lines: string[] } {
  using dir = mkdtempDisposableSync(join(tmpdir(), "lodge-runner-"));
  const names = Object.entries(files).map(([name, text]) => {
    writeFileSync(join(dir.path, `${name}.test.ts`), text);
    return `${name}.test.ts`;
  });
  const args = [join(import.meta.dirname, "test.ts"), ...options, ...names];
  const { status, stdout } = spawnSync(process.execPath, args, { cwd: dir.path, encoding: "utf8" });
  return { status, lines: stdout.trimEnd().split("\n") };
}

test("passing files are one line each, skip reasons are counted, the counts close", () => {
  const { status, lines } = runner({
    one: `${IMPORT}test("a", () => {}); test("b", { skip: "no tun" }, () => {}); test("c", (t) => t.skip("no tun"));`,
    two: `${IMPORT}suite("s", () => { test("a", () => {}); test("b", { todo: "when it rains" }, () => {}); });`,
  });
  assert.equal(status, 0);
  assert.deepEqual(lines.map((line) => line.replace(/[\d.]+ s\)/, "S s)")).sort(), [
    "2 passed, 0 failed, 3 skipped",
    "skipped 1: when it rains",
    "skipped 2: no tun",
    "✔ one.test.ts (1 passed, 2 skipped, S s)",
    "✔ two.test.ts (1 passed, 1 skipped, S s)",
  ]);
  assert.equal(lines.at(-1), "2 passed, 0 failed, 3 skipped");
});

for (const [what, text, closing, said] of [
  [
    "fails",
    `${IMPORT}test("a", () => { throw new Error("wrong"); });`,
    "0 passed, 1 failed, 0 skipped",
    /Error: wrong/,
  ],
  ["crashes at import", 'throw new Error("crash");', "0 passed, 1 failed, 0 skipped", /: exited with 1$/],
  ["is not TypeScript", "const = 1;", "0 passed, 1 failed, 0 skipped", /SyntaxError/],
  [
    "ends itself",
    `${IMPORT}test("a", () => process.exit(0));`,
    "0 passed, 1 failed, 0 skipped",
    /: has no tests, or one of them ended the process$/,
  ],
  ["is killed", 'process.kill(process.pid, "SIGKILL");', "0 passed, 1 failed, 0 skipped", /: was ended by SIGKILL$/],
  ["has no test", "export {};", "0 passed, 1 failed, 0 skipped", /: has no tests, or one of them ended the process$/],
  [
    "fails in a suite's hook",
    `import { before } from "node:test";\n${IMPORT}suite("s", () => { before(() => { throw 1; }); test("a", () => {}); });`,
    "0 passed, 2 failed, 0 skipped",
    /2 failed/,
  ],
] as const) {
  test(`a file that ${what} fails the run`, () => {
    const { status, lines } = runner({ file: text });
    assert.equal(status, 1);
    assert.equal(lines.at(-1), closing);
    assert.ok(
      lines.some((line) => said.test(line)),
      lines.join("\n"),
    );
  });
}

for (const [what, text] of [
  ["waits for ever", `${IMPORT}test("a", () => { setInterval(() => {}, 1000); });`],
  ["spins", `${IMPORT}test("a", () => { for (;;); });`],
] as const) {
  test(`a file that ${what} is killed after its time`, () => {
    const { status, lines } = runner({ file: text }, "--timeout", "1");
    assert.equal(status, 1);
    assert.equal(lines.at(-1), "0 passed, 1 failed, 0 skipped");
    assert.match(lines.at(-2)!, /took longer than 1 s and was killed \(--timeout SECONDS gives it more\)$/);
  });
}

test("what a file started ends with it", async () => {
  using dir = mkdtempDisposableSync(join(tmpdir(), "lodge-runner-"));
  const pidFile = join(dir.path, "pid");
  const { status } = runner({
    file: `import { spawn } from "node:child_process"; import { writeFileSync } from "node:fs"; ${IMPORT}
      test("a", () => { const sleeper = spawn("sleep", ["1000"], { stdio: "ignore" }); sleeper.unref();
        writeFileSync(${JSON.stringify(pidFile)}, String(sleeper.pid)); });`,
  });
  assert.equal(status, 0);
  const stat = `/proc/${readFileSync(pidFile, "utf8")}/stat`;
  // Gone, or ended and not yet collected by its new parent. A kill takes effect a moment after it was sent.
  while (existsSync(stat) && !/ [ZX] /.test(readFileSync(stat, "utf8"))) await setImmediate();
});

test("a file that does not exist fails the run", () => {
  const { status, lines } = runner({}, "none.test.ts");
  assert.equal(status, 1);
  assert.equal(lines.at(-1), "0 passed, 1 failed, 0 skipped");
});
