/** Who may make the image debian without being root, and what others are told. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chownSync, mkdtempDisposableSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { findProgram } from "./programs.ts";
import { rangeSize } from "./user-namespace.ts";

test("a user's ids are those of the lines with the name or the number", () => {
  const lines = "root:100000:65536\nalice:165536:65536\nalice:300000:10\n1001:231072:131072\nbob:x:y\n\nbroken\n";
  const size = (name: string, id: number) => rangeSize(lines, name, id);
  assert.deepEqual(
    [size("alice", 1000), size("carol", 1001), size("bob", 1002), size("ali", 1003)],
    [65536, 131072, 0, 0],
  );
});

const NOBODY = 65534;
const asNobody = (...args: string[]) => [`--reuid=${NOBODY}`, `--regid=${NOBODY}`, "--clear-groups", ...args];
const lodge = join(import.meta.dirname, "../../../cli/bin/lodge.js");
const needed = ["setpriv", "apt-get", "mmdebstrap", "fakeroot", "mke2fs", "xz"];
const readable = 'test -r "$0" && test -x "$1"';

function whyNot(): string | false {
  if (process.getuid?.() !== 0) return "only root can be another user";
  if (needed.some((name) => findProgram(name) === undefined)) return `one of ${needed.join(", ")} is not installed`;
  const { status } = spawnSync("setpriv", asNobody("sh", "-c", readable, lodge, process.execPath));
  return status === 0 ? false : "others may not read this clone";
}
const skip = whyNot();

test("nobody has none, and is told what is missing before anything is downloaded", { skip }, () => {
  using home = mkdtempDisposableSync(join(tmpdir(), "lodge-nobody-"));
  chownSync(home.path, NOBODY, NOBODY);
  const args = asNobody(process.execPath, lodge, "image", "build", "debian");
  const env = { PATH: process.env.PATH, HOME: home.path };
  const { stdout, stderr, status } = spawnSync("setpriv", args, { encoding: "utf8", env });
  assert.match(
    stderr,
    /^lodge: building the image debian without root needs (newuidmap, newgidmap: apt-get|65536 ids).*\n$/,
  );
  assert.deepEqual([stdout, status], ["", 2]);
});
