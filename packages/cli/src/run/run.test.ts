/** `lodge run` as a user meets it: a process with arguments, three streams and a status. */

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { on, once } from "node:events";
import { mkdtempDisposableSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
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

test("a machine with its console elsewhere tells what becomes of it, and is worked by QMP", { skip }, async () => {
  using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-run-"));
  const qmp = join(folder.path, "qmp");
  const child = start("--serial", "pty", "--json", "--name", "elsewhere", "--qmp", qmp, "--cpus", "2", "--pin", "1=0");
  const closed = once(child, "close");
  const stderr = text(child.stderr);
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async () => JSON.parse((await lines.next()).value ?? "null");
  const { serial, ...started } = await next();
  const which = { event: "started", name: "elsewhere", accelerator: "soft", pid: child.pid };
  assert.deepEqual(started, which);
  assert.match(serial, /^\/dev\/pts\/\d+$/);

  // The terminal's own program, as somebody's would be.
  const terminal = spawn("sh", ["-c", `exec <>${serial} >&0; cat >&3`], {
    stdio: ["ignore", "ignore", "inherit", "pipe"],
  });
  const said = terminal.stdio[3] as Readable;
  const until = async (words: string) => {
    let heard = "";
    for await (const bytes of on(said, "data")) {
      heard += bytes;
      if (heard.includes(words)) return;
    }
  };
  await until("# ");
  writeFileSync(serial, "hostname; grep Cpus_allowed_list /proc/self/status\n");
  await until("elsewhere\r\nCpus_allowed_list:\t0-1");

  const client = connect(qmp);
  client.write('{"execute":"qmp_capabilities"}{"execute":"stop"}{"execute":"cont"}{"execute":"quit"}');
  client.resume();
  assert.deepEqual([(await next()).event, (await next()).event], ["paused", "resumed"]);
  assert.deepEqual(await next(), { event: "ended", end: { reason: "stopped" } });
  assert.deepEqual(await closed, [0, null]);
  terminal.kill();
  assert.doesNotMatch(await stderr, /Error/);
});

test("a command's output as JSON; a guest that is reset or panics under it", { skip }, async () => {
  const one = spawnSync(process.execPath, [
    bin,
    "run",
    "--accel",
    "soft",
    "--memory",
    "256M",
    "--json",
    "--",
    "sh",
    "-c",
    "echo out; echo err >&2; exit 4",
  ]);
  assert.deepEqual(JSON.parse(String(one.stdout)), { status: 4, stdout: "out\n", stderr: "err\n" });
  assert.equal(one.status, 4);
  const lost = spawnSync(process.execPath, [bin, "run", "--accel", "soft", "--memory", "256M", "--", "reboot", "-f"]);
  assert.match(String(lost.stderr), /lodge: the guest was reset\n$/);
  assert.equal(lost.status, 1);
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
  [["--json"], "--json has stdout, and so has the console: send that elsewhere with --serial"],
  [["--serial", "modem"], undefined],
  [["--serial", "file:/no/such/folder/log"], undefined],
  [["--name", "two words"], 'name "two words": 1 to 63 letters, digits and hyphens, as in a host name'],
  [["--memory", "64M,hugepages=1G"], undefined],
  [["--memory", "64M,hugepages=2M,file=/dev/shm/x"], undefined],
  [["--memory", "64M,colour=red"], undefined],
  [["--pin", "3=0"], "vCPU 3 is pinned: the machine's are 0 to 0"],
  [["--pin", "0=1023"], undefined],
  [["--pin", "0"], undefined],
  [["--numa", "64M"], undefined],
  [["--numa", "64M,cpus=0"], undefined],
  [["--on-panic", "faint"], undefined],
  [["--qmp", "/no/such/folder/qmp"], undefined],
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
