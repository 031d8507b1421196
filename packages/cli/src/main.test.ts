/** The command as a user meets it: a process with arguments, two streams and a status. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempDisposableSync, openSync, readFileSync } from "node:fs";
import { cpus, release, tmpdir, totalmem } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";

const bin = join(import.meta.dirname, "../bin/lodge.js");
const cache = mkdtempDisposableSync(join(tmpdir(), "lodge-cli-"));
test.after(() => cache.remove());

function lodge(args: string[], options: { env?: Record<string, string>; stdout?: number } = {}) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [bin, ...args], {
    encoding: "utf8",
    stdio: ["ignore", options.stdout ?? "pipe", "pipe"],
    env: { ...process.env, XDG_CACHE_HOME: cache.path, ...options.env },
  });
  return { status, stdout, stderr };
}

test("the version is the package's", () => {
  const { version } = JSON.parse(readFileSync(join(import.meta.dirname, "../package.json"), "utf8"));
  assert.deepEqual(lodge(["--version"]), { status: 0, stdout: `${version}\n`, stderr: "" });
});

test("help names the commands; without arguments it is what is printed", () => {
  const help = lodge(["--help"]);
  assert.equal(help.status, 0);
  assert.match(help.stdout, /^Usage: lodge .*\binfo\b/s);
  assert.deepEqual(lodge([]), help);
  assert.deepEqual(lodge(["help"]), help);
  assert.match(lodge(["help", "info"]).stdout, /--json/);
});

for (const [args, message] of [
  [["frobnicate"], "unknown command 'frobnicate'; see lodge --help"],
  [["inof"], "unknown command 'inof' (Did you mean info?); see lodge --help"],
  [["--frobnicate"], "unknown option '--frobnicate'; see lodge --help"],
  [["info", "--jason"], "unknown option '--jason' (Did you mean --json?); see lodge --help"],
  [["info", "here"], "too many arguments for 'info'. Expected 0 arguments but got 1: here; see lodge --help"],
  [["image", "frobnicate"], "unknown command 'frobnicate'; see lodge --help"],
  [["image", "build", "tinny"], 'there is no image "tinny"; there is tiny, debian'],
  [["help", "frobnicate"], "no such command; see lodge --help"],
] as const) {
  test(`lodge ${args.join(" ")}: one line and status 2`, () => {
    assert.deepEqual(lodge([...args]), { status: 2, stdout: "", stderr: `lodge: ${message}\n` });
  });
}

test("lodge image list and rm: what is kept, as a table and as JSON", () => {
  const place = mkdtempDisposableSync(join(tmpdir(), "lodge-cli-kept-"));
  test.after(() => place.remove());
  const env = { XDG_DATA_HOME: place.path };
  const disk = join(place.path, "lodge", "machines", "web", "disk.qcow2");
  mkdirSync(dirname(disk), { recursive: true });
  assert.equal(lodge(["image", "create", "-q", "-f", "qcow2", disk, "20G"]).status, 0);
  const list = lodge(["image", "list"], { env });
  assert.match(list.stdout, /^NAME +USE +SIZE +DISK\ntiny +not built +Debian's cloud kernel/);
  assert.match(list.stdout, /^machines\/web +unused +\d+ KiB +20 GiB$/m);
  const found = JSON.parse(lodge(["image", "list", "--json"], { env }).stdout);
  assert.deepEqual(found.at(-1), { ...found.at(-1), name: "machines/web", path: disk, diskBytes: 20 * 2 ** 30 });
  assert.deepEqual(lodge(["image", "rm", "tiny"], { env }), {
    status: 2,
    stdout: "",
    stderr: 'lodge: there is no "tiny": it is not built\n',
  });
  assert.equal(lodge(["image", "rm", "machines/web"], { env }).stdout, "removed machines/web\n");
  assert.equal(existsSync(disk), false);
});

test("a reader that stops early is no error", () => {
  // The pipe's other end is closed before the first byte.
  const script = `${JSON.stringify(process.execPath)} ${JSON.stringify(bin)} info; echo status $? >&2`;
  const { stderr } = spawnSync("sh", ["-c", `{ ${script}; } | true`], {
    encoding: "utf8",
    env: { ...process.env, XDG_CACHE_HOME: cache.path },
  });
  assert.equal(stderr, "status 0\n");
});

test("any other failure is one line and status 1; LODGE_DEBUG=1 adds where", {
  skip: existsSync("/dev/full") ? false : "no /dev/full here",
}, () => {
  const full = () => openSync("/dev/full", "w");
  assert.deepEqual(
    { ...lodge(["info"], { stdout: full() }), stdout: undefined },
    { status: 1, stdout: undefined, stderr: "lodge: ENOSPC: no space left on device, write\n" },
  );
  assert.match(lodge(["info"], { stdout: full(), env: { LODGE_DEBUG: "1" } }).stderr, /^lodge: .*\n.*\n\s+at /s);
});

test("lodge info --json is the report, and lodge info --all lists every capability", () => {
  const { status, stdout, stderr } = lodge(["info", "--json"]);
  assert.deepEqual({ status, stderr }, { status: 0, stderr: "" });
  const report = JSON.parse(stdout);
  const sections = ["kvm", "software", "accelerator", "processor", "memory", "network", "isolation", "kernel"];
  assert.deepEqual(Object.keys(report), sections);
  // What Node knows of the host by other ways.
  assert.equal(report.processor.cores, cpus().length);
  assert.equal(report.processor.model, cpus()[0]?.model);
  assert.equal(report.memory.totalBytes, totalmem());
  assert.equal(report.kernel.release, release());
  if (!report.kvm.present) return;
  const all = lodge(["info", "--all"]).stdout;
  for (const [name, value] of Object.entries(report.kvm.capabilities)) {
    assert.match(all, new RegExp(`^  KVM_CAP_${name} +${value}$`, "m"));
  }
});

test("lodge info fits 80 columns and has no colour", () => {
  const { stdout } = lodge(["info"]);
  for (const line of stdout.split("\n")) assert.ok(line.length <= 80, line);
  assert.ok(!stdout.includes("\u001b"));
});
