import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { jobScript } from "./job.ts";

const SHELLS = ["dash", "busybox"].filter((shell) => spawnSync(shell, { input: "" }).error === undefined);

function run(shell: string, script: Buffer) {
  const args = shell === "busybox" ? ["sh"] : [];
  const { stdout, stderr, status } = spawnSync(shell, args, { input: script });
  return { stdout: stdout.toString(), stderr: stderr.toString(), status };
}

for (const shell of SHELLS) {
  test(`${shell} gets every argument as it was`, () => {
    const nasty = ["", " ", "a b", "'", "''", '"$HOME`id`"', "\\", "\n\t", "-n", "*", "é", "$(exit 3)", "!"];
    const script = jobScript(["printf", "%s\\0", ...nasty], { cwd: "/" });
    assert.equal(run(shell, script).stdout, nasty.map((text) => `${text}\0`).join(""));
  });

  test(`${shell} sets the environment and the directory`, () => {
    const script = jobScript(["sh", "-c", 'printf "%s|%s" "$GREETING" "$PWD"'], {
      cwd: "/usr",
      env: { GREETING: "a 'b'" },
    });
    assert.equal(run(shell, script).stdout, "a 'b'|/usr");
  });

  test(`${shell} says when there is no such directory or program`, () => {
    assert.equal(run(shell, jobScript(["true"], { cwd: "/no/such" })).status, 126);
    const missing = run(shell, jobScript(["no-such-program"], { cwd: "/" }));
    assert.equal(missing.status, 127);
    assert.match(missing.stderr, /no-such-program/);
  });
}

test("what cannot be passed is refused", () => {
  assert.throws(() => jobScript([]), { code: "VMM_CONFIG", message: /needs a program/ });
  assert.throws(() => jobScript(["a\0b"]), { code: "VMM_CONFIG", message: /holds a NUL/ });
  assert.throws(() => jobScript(["a"], { env: { "A B": "" } }), { code: "VMM_CONFIG", message: /"A B" is no name/ });
  assert.throws(() => jobScript(["x".repeat(2 ** 20)]), { code: "VMM_CONFIG", message: /at most 1048576/ });
});
