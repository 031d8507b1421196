/** What `lodge image convert` takes along or makes do without, beside qemu-img. */

import assert from "node:assert/strict";
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { bin, missing, Place, refused, skip } from "../../testing/image-place.ts";

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

test("the kernel copies what lies in files as it is, with the zeros in it", { skip }, () => {
  using place = new Place();
  place.qemu("create", "-q", "-f", "raw", "base.raw", "16M");
  place.io("base.raw", "write -P 4 8M 1M", "write -P 0 9M 1M");
  place.qemu("create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", "a.qcow2");
  place.io("a.qcow2", "write -P 5 0 640k", "write -P 0 1M 1M", "write -P 3 8200k 3k", "write -z 12M 1M");
  place.qemu("create", "-q", "-f", "qcow2", "c.qcow2", "4M");
  place.io("c.qcow2", "write -c -P 8 2M 64k", "write -P 6 3M 100k");
  for (const [source, format, zeros] of [
    ["a.qcow2", "raw", 2 << 20],
    ["a.qcow2", "qcow2", 2 << 20],
    ["base.raw", "raw", 1 << 20],
    ["base.raw", "qcow2", 1 << 20],
    // What is compressed goes the ordinary way.
    ["c.qcow2", "raw", 0],
  ] as const) {
    const used = (target: string) => statSync(place.path(target)).blocks * 512;
    place.lodge("convert", "-O", format, source, "plain");
    place.lodge("convert", "-C", "-O", format, source, "offloaded");
    place.qemu("compare", "-q", "-F", format, source, "offloaded");
    if (format === "qcow2") place.qemu("check", "-q", "offloaded");
    const more = used("offloaded") - used("plain");
    assert.ok(more >= zeros && more <= zeros + (256 << 10), `${source} to ${format}: ${more} bytes more`);
  }
  for (const other of [
    ["-c", "-O", "qcow2"],
    ["-S", "64k"],
  ]) {
    refused(place, ["convert", "-C", ...other, "a.qcow2", "x"], /^lodge: -C and -[cS]: what the kernel copies/);
  }
});

test("bitmaps come along as they are", { skip: skip || missing("qemu-nbd", "nbdinfo") }, () => {
  using place = new Place();
  /** The parts of the disk that a bitmap has by QEMU's reading. */
  const dirty = (image: string, name: string): [number, number][] => {
    const server = ["qemu-nbd", "--read-only", "--format=qcow2", `--bitmap=${name}`, image];
    const map = `--map=qemu:dirty-bitmap:${name}`;
    const { status, stdout, stderr } = place.run("nbdinfo", "--json", map, "--", "[", ...server, "]");
    assert.equal(status, 0, stderr);
    const parts = JSON.parse(stdout) as { offset: number; length: number; type: number }[];
    return parts.filter(({ type }) => type === 1).map(({ offset, length }) => [offset, offset + length]);
  };
  const bitmapsIn = (image: string) =>
    JSON.parse(place.qemu("info", "--output=json", image))["format-specific"].data.bitmaps;
  place.qemu("create", "-q", "-f", "qcow2", "a.qcow2", "16M");
  place.io("a.qcow2", "write -P 1 0 1M");
  for (const options of [["follows"], ["-g", "4k", "stays"], ["-g", "512", "fine"], ["-g", "32M", "coarse"]]) {
    place.qemu("bitmap", "--add", "a.qcow2", ...options);
  }
  place.io("a.qcow2", "write -P 2 3M 100k", "write -P 3 8M 512", "write -z 15M 1M");
  place.qemu("bitmap", "--disable", "a.qcow2", "stays");
  place.io("a.qcow2", "write -P 4 5M 1M");
  const taken = (ours: string, ...options: string[]) => {
    place.lodge("convert", "--bitmaps", "-O", "qcow2", ...options, "a.qcow2", ours);
    place.qemu("check", "-q", ours);
    place.qemu("compare", "-q", "a.qcow2", ours);
    const bitmaps = bitmapsIn(ours);
    assert.deepEqual(bitmaps, bitmapsIn("theirs.qcow2"), options.join(" "));
    for (const { name } of bitmaps) {
      const runs = dirty("a.qcow2", name);
      assert.ok(runs.length > 0);
      assert.deepEqual(dirty(ours, name), runs, `${name} ${options.join(" ")}`);
    }
  };
  place.qemu("convert", "--bitmaps", "-O", "qcow2", "a.qcow2", "theirs.qcow2");
  taken("same.qcow2");
  taken("small.qcow2", "-c", "-o", "cluster_size=512");
  place.qemu("create", "-q", "-f", "qcow2", "there.qcow2", "16M");
  taken("there.qcow2", "-n");
  // What followed the source's writes goes on with the copy's.
  place.io("same.qcow2", "write 10M 64k");
  const after = dirty("same.qcow2", "follows");
  assert.ok(after.some(([from, to]) => from === 10 << 20 && to === from + 65536));
  // Whoever is killed leaves bitmaps that are worth nothing.
  place.run("qemu-io", "a.qcow2", "-c", "write 0 64k", "-c", "sigraise 9");
  assert.ok(bitmapsIn("a.qcow2").every(({ flags }: { flags: string[] }) => flags.includes("in-use")));
  const lost = /^lodge: a\.qcow2: bitmap "follows" was not kept by .*: --skip-broken-bitmaps leaves it out\n$/;
  refused(place, ["convert", "--bitmaps", "-O", "qcow2", "a.qcow2", "x"], lost);
  place.qemu("bitmap", "--add", "a.qcow2", "new");
  const skipping = ["convert", "--bitmaps", "--skip-broken-bitmaps", "-O", "qcow2", "a.qcow2"];
  const { status, stderr } = place.run(process.execPath, bin, "image", ...skipping, "whole.qcow2");
  assert.equal(status, 0, stderr);
  assert.match(stderr, /^(lodge: a\.qcow2: bitmap "\w+" was not kept by .*: it is left out\n){4}$/);
  assert.deepEqual(bitmapsIn("whole.qcow2"), [{ flags: ["auto"], name: "new", granularity: 65536 }]);
  const unchanged = bitmapsIn("there.qcow2");
  place.qemu("bitmap", "--add", "same.qcow2", "more");
  place.qemu("convert", "-O", "raw", "a.qcow2", "a.raw");
  for (const [args, said] of [
    [["same.qcow2", "x"], /^lodge: --bitmaps: an image of the format raw keeps none: take -O qcow2\n$/],
    [["-O", "qcow2", "a.raw", "x"], /^lodge: a\.raw: an image of the format raw keeps no bitmaps/],
    [["-O", "qcow2", "-o", "compat=0.10", "same.qcow2", "x"], /version 2 of qcow2 keeps no bitmaps/],
    [["-O", "qcow2", "-l", "1", "same.qcow2", "x"], /there is no snapshot 1/],
    [["-O", "qcow2", "-n", "same.qcow2", "there.qcow2"], /bitmap "\w+": there is one of that name already/],
  ] as const) {
    refused(place, ["convert", "--bitmaps", ...args], said);
    assert.equal(existsSync(place.path("x")), false);
  }
  assert.deepEqual(bitmapsIn("there.qcow2"), unchanged);
  refused(place, ["convert", "--skip-broken-bitmaps", "same.qcow2", "x"], /goes with --bitmaps/);
  place.qemu("snapshot", "-c", "then", "same.qcow2");
  refused(place, ["convert", "--bitmaps", "-l", "then", "-O", "qcow2", "same.qcow2", "x"], /not until a snapshot/);
});

test("what is compressed are whole clusters, however the source holds their parts", { skip }, () => {
  using place = new Place();
  // Data between holes, smaller than the new image's clusters and not at their beginnings.
  place.qemu("create", "-q", "-f", "raw", "a.raw", "1000k");
  place.io(
    "a.raw",
    "write -P 1 8k 4k",
    "write -P 2 24k 4k",
    "write -P 3 60k 8k",
    "write -P 4 500k 200k",
    "write -P 5 996k 4k",
  );
  place.qemu("create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", "-b", "a.raw", "-F", "raw", "top.qcow2");
  place.io("top.qcow2", "write -P 6 4k 4k", "write -z 24k 4k", "write -P 0 640k 64k", "write -P 7 300k 1k");
  for (const [source, ...options] of [
    ["a.raw"],
    ["a.raw", "-o", "cluster_size=2M"],
    ["a.raw", "-m", "1", "-o", "cluster_size=512"],
    ["top.qcow2"],
    ["top.qcow2", "-S", "0"],
    ["top.qcow2", "-B", "a.raw", "-F", "raw"],
    ["top.qcow2", "-B", "a.raw", "-F", "raw", "-o", "compat=0.10"],
  ] as const) {
    place.lodge("convert", "-q", "-c", "-O", "qcow2", ...options, source, "ours.qcow2");
    place.qemu("compare", "-q", source, "ours.qcow2");
    place.qemu("check", "-q", "ours.qcow2");
  }
  // What is below is taken along only where a part of the cluster is the source's own.
  place.lodge("convert", "-q", "-c", "-O", "qcow2", "-B", "a.raw", "-F", "raw", "top.qcow2", "ours.qcow2");
  const map = JSON.parse(place.qemu("map", "--output=json", "ours.qcow2")) as { start: number; depth: number }[];
  assert.ok(
    map.some(({ start, depth }) => start === 500 << 10 && depth === 1),
    JSON.stringify(map),
  );
  // Over what is there already, where zeros have to be written.
  for (const compat of ["0.10", "1.1"]) {
    place.qemu("create", "-q", "-f", "qcow2", "-o", `compat=${compat}`, "there.qcow2", "1000k");
    place.io("there.qcow2", "write -P 9 0 1000k");
    place.lodge("convert", "-q", "-c", "-n", "-O", "qcow2", "top.qcow2", "there.qcow2");
    place.qemu("compare", "-q", "top.qcow2", "there.qcow2");
    place.qemu("check", "-q", "there.qcow2");
  }
});

test("what cannot be read is zeros in a salvaged copy, and told", { skip: skip || missing("qemu-nbd") }, () => {
  using place = new Place();
  place.qemu("create", "-q", "-f", "raw", "a.raw", "8M");
  place.io("a.raw", "write -P 1 0 3M", "write -P 2 5M 3M");
  // A disk with sectors that cannot be read, as a server's.
  const broken = [100, 101, 102, 2048, 12345].flatMap((sector, index) => {
    const rule = `inject-error.${index}`;
    return [`${rule}.event=none`, `${rule}.iotype=read`, `${rule}.errno=5`, `${rule}.sector=${sector}`];
  });
  const file = `driver=raw,file.driver=blkdebug,file.image.driver=file,file.image.filename=${place.path("a.raw")}`;
  const disk = [file, ...broken.map((option) => `file.${option}`)].join(",");
  place.qemu("convert", "-q", "--salvage", "--image-opts", "-O", "raw", disk, "theirs.raw");
  const [socket, pidFile] = [place.path("nbd"), place.path("pid")];
  const server = ["--fork", "--persistent", "--read-only", `--pid-file=${pidFile}`, `--socket=${socket}`];
  const served = place.run("qemu-nbd", ...server, "--shared=8", "--image-opts", disk);
  assert.equal(served.status, 0, served.stderr);
  try {
    const uri = `nbd+unix:///?socket=${socket}`;
    refused(place, ["convert", "-q", "-f", "raw", uri, "x"], /^lodge: nbd\+unix:.*$/m);
    assert.equal(existsSync(place.path("x")), false);
    // One request at a time: QEMU 7.2's server breaks the connection when others are under way while one fails.
    for (const [target, ...how] of [
      ["ours.raw", "-O", "raw"],
      ["ours.qcow2", "-O", "qcow2"],
      ["packed.qcow2", "-c", "-O", "qcow2"],
    ] as const) {
      const args = ["convert", "-m", "1", "--salvage", "-f", "raw", ...how, uri, target];
      const { status, stderr } = place.run(process.execPath, bin, "image", ...args);
      assert.equal(status, 0, stderr);
      const lines = stderr
        .trimEnd()
        .split("\n")
        .map((line) => line.replace(`lodge: ${uri}: `, ""));
      const said = (offset: number, bytes: number) =>
        `${bytes} bytes at ${offset} cannot be read: they are zeros in the copy`;
      const wanted = [said(100 * 512, 3 * 512), said(2048 * 512, 512), said(12345 * 512, 512)];
      assert.deepEqual(lines.sort(), wanted.sort());
      place.qemu("compare", "-q", "-F", "raw", target, "theirs.raw");
      place.io(target, "read -P 0 50k 1536", "read -P 1 49k 1k", "read -P 0 1M 512", "read -P 1 1049088 512");
    }
    const quiet = place.run(process.execPath, bin, "image", "convert", "-q", "-m", "1", "--salvage", uri, "ours.raw");
    assert.deepEqual([quiet.status, quiet.stderr], [0, ""]);
  } finally {
    process.kill(Number(readFileSync(pidFile, "utf8")), "SIGKILL");
  }
  // A compressed cluster that is none, and a table that leads nowhere.
  place.qemu("convert", "-c", "-O", "qcow2", "a.raw", "packed.qcow2");
  const bytes = readFileSync(place.path("packed.qcow2"));
  const l2 = Number(bytes.readBigUInt64BE(Number(bytes.readBigUInt64BE(40))) & 0xfffffffffffe00n);
  bytes
    .fill(0xff, Number(bytes.readBigUInt64BE(l2) & 0x3fffffffffffffn))
    .writeBigUInt64BE(0x8000000000000200n, l2 + 8 * 64);
  writeFileSync(place.path("packed.qcow2"), bytes);
  refused(place, ["convert", "packed.qcow2", "x"], /^lodge: packed\.qcow2: /);
  const { status, stderr } = place.run(process.execPath, bin, "image", "convert", "--salvage", "packed.qcow2", "x");
  assert.equal(status, 0, stderr);
  assert.match(stderr, /^lodge: packed\.qcow2: \d+ bytes at 0 cannot be read/m);
  assert.match(stderr, /^lodge: packed\.qcow2: 65536 bytes at 4194304 cannot be read/m);
  place.io("x", "read -P 0 0 64k", "read -P 0 4M 64k");
});

test("several sources become one disk", { skip }, () => {
  using place = new Place();
  place.qemu("create", "-q", "-f", "raw", "a.raw", "70k");
  place.io("a.raw", "write -P 1 0 70k");
  place.qemu("create", "-q", "-f", "qcow2", "b.qcow2", "4M");
  place.io("b.qcow2", "write -P 2 10k 100k", "write -P 3 3M 1M");
  for (const [target, ...options] of [
    ["joined.raw", "-O", "raw"],
    ["joined.qcow2", "-O", "qcow2"],
    ["packed.qcow2", "-c", "-O", "qcow2"],
    ["limited.raw", "-r", "20M"],
    ["unlimited.raw", "-r", "0"],
  ] as const) {
    place.lodge("convert", "-q", ...options, "a.raw", "b.qcow2", "a.raw", target);
    place.qemu("convert", "-O", "raw", "a.raw", "b.qcow2", "a.raw", "theirs.raw");
    place.qemu("compare", "-q", "-F", "raw", target, "theirs.raw");
    assert.equal(JSON.parse(place.qemu("info", "--output=json", target))["virtual-size"], (4 << 20) + 2 * (70 << 10));
  }
  for (const [args, said] of [
    [["a.raw"], /a\.raw: convert needs a source and a target/],
    [["-r", "fast", "a.raw", "x"], /fast is no size/],
    [["a.raw", "none", "x"], /none cannot be opened/],
    [["-c", "b.qcow2", "x"], /^lodge: -c: x is to be raw, and only qcow2 has compressed clusters\n$/],
    [["-l", "1", "a.raw", "b.qcow2", "x"], /^lodge: -l: only with a single source\n$/],
    [["--bitmaps", "-O", "qcow2", "b.qcow2", "b.qcow2", "x"], /^lodge: --bitmaps: only with a single source\n$/],
    [["-O", "qcow2", "-B", "a.raw", "-F", "raw", "b.qcow2", "b.qcow2", "x"], /^lodge: -B: only with a single/],
  ] as const) {
    refused(place, ["convert", ...args], said);
    assert.equal(existsSync(place.path("x")), false);
  }
});
