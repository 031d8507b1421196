/** `lodge run` as a user meets it: a process with arguments, three streams and a status. */

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { test } from "node:test";

const bin = join(import.meta.dirname, "../../bin/lodge.js");
const missing = ["apt-get", "dpkg-deb", "xz"].find((program) => spawnSync(program, ["--version"]).error !== undefined);
const skip = missing === undefined ? false : `${missing} is not installed`;

function start(...args: string[]) {
  return spawn(process.execPath, [bin, "run", "--accel", "soft", "--memory", "256M", ...args]);
}

test("a command has this process's streams, and this process its status", { skip }, async () => {
  const child = start("--", "sh", "-c", "cat; echo err >&2; exit 3");
  child.stdin.end("from here\n");
  const [stdout, stderr, [status]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close")]);
  assert.equal(stdout, "from here\n");
  // Where it took long there are lines of ours before.
  assert.match(stderr, /(^|\n)err\n$/);
  assert.equal(status, 3);
});

test("signals are the command's", { skip }, async () => {
  const child = start("--", "sh", "-c", "trap 'echo stopped; exit 5' TERM; echo ready; while :; do sleep 1000; done");
  child.stdin.end();
  child.stderr.resume();
  const output = text(child.stdout);
  await once(child.stdout, "readable");
  child.kill("SIGTERM");
  assert.deepEqual(await once(child, "close"), [5, null]);
  assert.equal(await output, "ready\nstopped\n");
});

for (const [args, message] of [
  [["--memory", "lots"], 'memory "lots" is no size: write 512M, 4G or a number of bytes'],
  [["--cpus", "2,cores=3"], "2 vCPUs are not 1 sockets of 3 cores of 1 threads"],
  [["--kernel", "/no/such"], "kernel /no/such: there is no such file"],
  [["--kernel", import.meta.filename], undefined],
  [["--disk", "/no/such"], undefined],
  [["--disk", "a,colour=red"], undefined],
  [["--accel", "fast"], undefined],
  [["--device", "floppy"], undefined],
  [["tinny"], 'there is no image "tinny"; there is tiny'],
] as const) {
  test(`lodge run ${args.join(" ").replace(/\/\S+\//, "")}: one line and status 2`, { skip }, () => {
    const { stdout, stderr, status } = spawnSync(process.execPath, [bin, "run", ...args], { encoding: "utf8" });
    assert.equal(stdout, "");
    assert.match(stderr, /^lodge: .+\n$/);
    if (message !== undefined) assert.equal(stderr, `lodge: ${message}\n`);
    assert.equal(status, 2);
  });
}
