/** Who may make the image debian without being root, and what others are told. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chownSync, mkdtempDisposableSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { asNobody, NOBODY, notNobody } from "../../testing/nobody.ts";
import { rangeSize } from "./user-namespace.ts";

test("a user's ids are those of the first line with the name, as mmdebstrap has it", () => {
  const lines = "root:100000:65536\nalice:165536:65536\nalice:300000:10\n1001:231072:131072\nbob:x:y\n\nbroken\n";
  assert.deepEqual(
    ["alice", "carol", "bob", "ali", "broken"].map((name) => rangeSize(lines, name)),
    [65536, 0, 0, 0, 0],
  );
});

const skip = notNobody("apt-get", "mmdebstrap", "fakeroot", "mke2fs", "xz");

test("nobody has none, and is told what is missing before anything is downloaded", { skip }, () => {
  using home = mkdtempDisposableSync(join(tmpdir(), "lodge-nobody-"));
  chownSync(home.path, NOBODY, NOBODY);
  const [program, ...args] = asNobody("image", "build", "debian");
  const env = { PATH: process.env.PATH, HOME: home.path };
  const { stdout, stderr, status } = spawnSync(program, args, { encoding: "utf8", env });
  assert.match(
    stderr,
    /^lodge: building the image debian without root needs (newuidmap, newgidmap: apt-get|65536 ids).*\n$/,
  );
  assert.deepEqual([stdout, status], ["", 2]);
});
