/** What `lodge image convert` takes along or makes do without, beside qemu-img. */

import assert from "node:assert/strict";
import { existsSync, statSync } from "node:fs";
import { test } from "node:test";
import { Place, refused, skip } from "./testing/place.ts";

test("an internal snapshot becomes an image of its own", { skip }, () => {
  using place = new Place();
  place.qemu("create", "-q", "-f", "raw", "base.raw", "16M");
  place.io("base.raw", "write -P 4 8M 1M");
  place.qemu("create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", "a.qcow2");
  place.io("a.qcow2", "write -P 5 0 640k", "write -c -P 8 2M 64k", "write -z 3M 64k");
  place.qemu("snapshot", "-c", "2", "a.qcow2");
  place.io("a.qcow2", "write -P 6 64k 3M", "write -P 7 8M 64k");
  place.qemu("snapshot", "-c", "with, a comma", "a.qcow2");
  place.io("a.qcow2", "write -P 9 0 10M");
  // An ID goes before the name that is the same.
  for (const [index, wanted] of [
    "1",
    "2",
    "with, a comma",
    "snapshot.name=2",
    "snapshot.id=1,snapshot.name=2",
    "snapshot.name=with,, a comma,snapshot.id=2",
  ].entries()) {
    place.lodge("convert", "-l", wanted, "-O", "qcow2", "a.qcow2", `ours${index}.qcow2`);
    place.qemu("convert", "-l", wanted, "-O", "raw", "a.qcow2", `theirs${index}.raw`);
    place.qemu("check", "-q", `ours${index}.qcow2`);
    place.qemu("compare", "-q", "-f", "qcow2", "-F", "raw", `ours${index}.qcow2`, `theirs${index}.raw`);
  }
  assert.equal(place.run("qemu-img", "compare", "-q", "-F", "raw", "ours0.qcow2", "theirs1.raw").status, 1);
  // On the same base, it holds only what the snapshot does.
  place.lodge("convert", "-l", "1", "-O", "qcow2", "-B", "base.raw", "-F", "raw", "a.qcow2", "own.qcow2");
  place.qemu("compare", "-q", "-F", "raw", "own.qcow2", "theirs0.raw");
  assert.ok(statSync(place.path("own.qcow2")).size < 2 << 20);
  // It is as long as it was then.
  place.qemu("create", "-q", "-f", "qcow2", "grown.qcow2", "1M");
  place.io("grown.qcow2", "write -P 3 0 1M");
  place.qemu("snapshot", "-c", "short", "grown.qcow2");
  place.qemu("resize", "-q", "grown.qcow2", "4G");
  place.io("grown.qcow2", "write -P 4 0 1M", "write -P 5 3G 1M");
  place.lodge("convert", "-l", "short", "grown.qcow2", "short.raw");
  assert.equal(statSync(place.path("short.raw")).size, 1 << 20);
  place.io("short.raw", "read -P 3 0 1M");
  for (const [wanted, source, said] of [
    ["3", "a.qcow2", /^lodge: a\.qcow2: there is no snapshot 3\n$/],
    ["snapshot.id=2,snapshot.name=2", "a.qcow2", /^lodge: a\.qcow2: there is no snapshot of ID 2 2\n$/],
    ["snapshot.what=2", "a.qcow2", /^lodge: -l .*: snapshot\.what=2 is neither snapshot\.id=ID nor/],
    ["1", "base.raw", /^lodge: base\.raw: an image of the format raw has no snapshots: qcow2 has\n$/],
  ] as const) {
    refused(place, ["convert", "-l", wanted, source, "x"], said);
    assert.equal(existsSync(place.path("x")), false);
  }
});
