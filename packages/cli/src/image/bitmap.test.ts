/** `lodge image bitmap` with two files, beside qemu-img; what it does with one is tried in image.test.ts. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { bin, missing, Place, skip } from "../../testing/image-place.ts";

test("bitmaps of another file are merged, as QEMU does it", { skip: skip || missing("qemu-nbd", "nbdinfo") }, () => {
  using place = new Place();
  for (const name of ["ours", "theirs", "source"]) place.qemu("create", "-q", "-f", "qcow2", name, "8M");
  place.qemu("bitmap", "--add", "-g", "4k", "source", "written");
  place.qemu("bitmap", "--add", "source", "more");
  place.io("source", "write 1M 4k", "write 8188k 4k");
  for (const name of ["ours", "theirs"]) place.qemu("bitmap", "--add", "-g", "64k", name, "sum");
  const merge = ["bitmap", "--merge", "written", "--merge", "more", "-b", "source", "-F", "qcow2"];
  place.lodge(...merge, "ours", "sum");
  place.qemu(...merge, "theirs", "sum");
  for (const name of ["ours", "theirs"]) place.qemu("check", "-q", name);
  // All that is dirty, as whoever makes an incremental backup reads it.
  const bits = (name: string) => {
    const server = ["qemu-nbd", "-r", "-f", "qcow2", "-B", "sum", name];
    const map = "--map=qemu:dirty-bitmap:sum";
    const { status, stdout, stderr } = place.run("nbdinfo", "--json", map, "--", "[", ...server, "]");
    assert.equal(status, 0, stderr);
    return JSON.parse(stdout);
  };
  const dirty = bits("ours").filter(({ type }: { type: number }) => type === 1);
  assert.deepEqual(
    dirty.map(({ offset, length }: { offset: number; length: number }) => [offset, length]),
    [
      [1 << 20, 65536],
      [(8 << 20) - 65536, 65536],
    ],
  );
  assert.deepEqual(bits("ours"), bits("theirs"));
  place.qemu("create", "-q", "-f", "qcow2", "longer", "9M");
  place.qemu("bitmap", "--add", "longer", "written");
  place.qemu("create", "-q", "raw", "8M");
  for (const [args, message] of [
    [["--merge", "written", "-b", "longer", "ours", "sum"], /it is of 8388608 bytes, what is to be merged of 9437184/],
    [["--merge", "none", "-b", "source", "ours", "sum"], /source: bitmap "none": there is none of that name/],
    [["--merge", "written", "-b", "raw", "-F", "raw", "ours", "sum"], /raw: bitmap "written": there is none/],
    [["--clear", "-b", "source", "ours", "sum"], /-b goes with --merge/],
    [["--merge", "sum", "-F", "qcow2", "ours", "sum"], /-F goes with -b/],
  ] as const) {
    const { status, stderr } = place.run(process.execPath, bin, "image", "bitmap", ...args);
    assert.equal(status, 2, stderr);
    assert.match(stderr, message);
  }
});
