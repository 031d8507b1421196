import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { parseOptions } from "./arguments.ts";
import { LabError } from "./errors.ts";
import { encodeJob, quote } from "./job.ts";
import { nasty } from "./nasty.ts";

test("a shell reads back exactly what was quoted", () => {
  const script = `for word in ${nasty.map(quote).join(" ")}; do printf '%s\\0' "$word"; done`;
  const { stdout } = spawnSync("/bin/sh", ["-c", script]);
  assert.deepEqual(stdout.toString().split("\0").slice(0, -1), nasty);
});

const job = { argv: ["true"], env: {}, cwd: "/", mark: "end", modules: "/none", nowMs: 1500 };

test("a job is a script that sets variables and defines the command", () => {
  const script = encodeJob({ ...job, argv: ["/bin/echo", "it's"], env: { A: "1 2" }, cwd: "/tmp" });
  const { stdout, status } = spawnSync("/bin/sh", ["-c", `${script}\necho "$now $mark"; (command)`]);
  assert.equal(stdout.toString(), "1.500 end\nit's\n");
  assert.equal(status, 0);
});

test("what cannot be passed is refused", () => {
  assert.throws(() => encodeJob({ ...job, argv: [] }), LabError);
  assert.throws(() => encodeJob({ ...job, argv: ["a\0b"] }), LabError);
  assert.throws(() => encodeJob({ ...job, env: { "A B": "" } }), LabError);
});

test("options end where the command begins", () => {
  const { command, timeoutMs, env } = parseOptions(["--timeout", "1.5", "--env=A=b=c", "node", "--cpus", "9"]);
  assert.deepEqual(command, ["node", "--cpus", "9"]);
  assert.equal(timeoutMs, 1500);
  assert.deepEqual(env, { A: "b=c" });
  assert.deepEqual(parseOptions(["--", "--help"]).command, ["--help"]);
  for (const wrong of [[], ["--cpus"], ["--cpus", "0.5", "true"], ["--nosuch"], ["--timeout=soon", "true"]]) {
    assert.throws(() => parseOptions(wrong), LabError);
  }
});
