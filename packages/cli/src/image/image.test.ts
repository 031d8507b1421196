/** `lodge image` beside qemu-img: what one makes, the other reads, and they say the same of it. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempDisposableSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

const bin = join(import.meta.dirname, "../../bin/lodge.js");
const absent = ["qemu-img", "qemu-io"].filter((name) => spawnSync(name, ["--version"]).error !== undefined);
const skip = absent.length > 0 && `${absent.join(", ")}: not installed`;

/** A folder that commands run in. */
class Place implements Disposable {
  readonly #folder = mkdtempDisposableSync(join(tmpdir(), "lodge-cli-image-"));

  path(name: string): string {
    return join(this.#folder.path, name);
  }

  run(program: string, ...args: string[]): { status: number | null; stdout: string; stderr: string } {
    return spawnSync(program, args, { cwd: this.#folder.path, encoding: "utf8" });
  }

  lodge(...args: string[]): string {
    const { status, stdout, stderr } = this.run(process.execPath, bin, "image", ...args);
    assert.equal(status, 0, `lodge image ${args.join(" ")}: ${stderr}`);
    return stdout;
  }

  qemu(...args: string[]): string {
    const { status, stdout, stderr } = this.run("qemu-img", ...args);
    assert.equal(status, 0, `qemu-img ${args.join(" ")}: ${stdout}${stderr}`);
    return stdout;
  }

  io(image: string, ...commands: string[]): void {
    const { status, stdout } = this.run("qemu-io", image, ...commands.flatMap((text) => ["-c", text]));
    assert.ok(status === 0 && !/failed/.test(stdout), stdout);
  }

  [Symbol.dispose](): void {
    this.#folder[Symbol.dispose]();
  }
}

/** A disk with data, zeros and compressed clusters. */
function sample(place: Place): void {
  place.qemu("create", "-q", "-f", "qcow2", "a.qcow2", "1G");
  place.io("a.qcow2", "write -P 5 0 640k", "write -z 1M 64k", "write -c -P 8 2M 64k", "write -P 9 1000M 3M");
}

test("info, map and check say what qemu-img says", { skip }, () => {
  using place = new Place();
  sample(place);
  const theirs = JSON.parse(place.qemu("info", "--output=json", "a.qcow2"));
  assert.deepEqual(JSON.parse(place.lodge("info", "--json", "a.qcow2")), theirs);
  assert.match(place.lodge("info", "a.qcow2"), /virtual size: 1 GiB \(1073741824 bytes\)/);
  const map = JSON.parse(place.qemu("map", "--output=json", "a.qcow2"));
  assert.deepEqual(JSON.parse(place.lodge("map", "--output", "json", "a.qcow2")), map);
  const check = JSON.parse(place.qemu("check", "--output=json", "a.qcow2"));
  assert.deepEqual(JSON.parse(place.lodge("check", "--json", "a.qcow2")), check);
});

test("convert between formats, compressed or not", { skip }, () => {
  using place = new Place();
  sample(place);
  place.lodge("convert", "-O", "qcow2", "a.qcow2", "b.qcow2");
  place.lodge("convert", "-O", "qcow2", "-c", "-o", "compression_type=zstd,cluster_size=128k", "b.qcow2", "c.qcow2");
  place.lodge("convert", "-O", "raw", "c.qcow2", "d.raw");
  place.lodge("convert", "-O", "qcow2", "-c", "-o", "cluster_size=2M", "b.qcow2", "large.qcow2");
  place.qemu("check", "-q", "large.qcow2");
  place.qemu("compare", "a.qcow2", "large.qcow2");
  for (const image of ["b.qcow2", "c.qcow2"]) {
    place.qemu("check", "-q", image);
    place.qemu("compare", "-q", "a.qcow2", image);
  }
  place.qemu("compare", "-q", "-F", "raw", "a.qcow2", "d.raw");
  assert.match(place.lodge("compare", "a.qcow2", "d.raw"), /identical/);
  assert.ok(statSync(place.path("d.raw")).blocks * 512 < 8 << 20, "a hole stays a hole");
  assert.ok(statSync(place.path("c.qcow2")).size < 2 << 20, "and what repeats becomes short");
  place.io("b.qcow2", "write -P 1 1001M 512");
  const { status, stdout } = place.run(process.execPath, bin, "image", "compare", "a.qcow2", "b.qcow2");
  assert.deepEqual([status, stdout], [1, `Content mismatch at offset ${1001 << 20}!\n`]);
});

test("a chain is made, committed and given another base", { skip }, () => {
  using place = new Place();
  sample(place);
  place.lodge("create", "-q", "-f", "qcow2", "-b", "a.qcow2", "-F", "qcow2", "e.qcow2");
  place.io("e.qcow2", "write -P 7 1000M 64k", "write -z 1001M 100k");
  const infos = JSON.parse(place.lodge("info", "--json", "--backing-chain", "e.qcow2"));
  assert.deepEqual(infos, JSON.parse(place.qemu("info", "--output=json", "--backing-chain", "e.qcow2")));
  place.qemu("convert", "-O", "qcow2", "e.qcow2", "flat.qcow2");
  writeFileSync(place.path("alone.qcow2"), readFileSync(place.path("e.qcow2")));
  place.lodge("rebase", "-b", "", "alone.qcow2");
  place.qemu("compare", "-q", "flat.qcow2", "alone.qcow2");
  place.qemu("check", "-q", "alone.qcow2");
  place.lodge("commit", "-q", "e.qcow2");
  place.qemu("compare", "-q", "flat.qcow2", "a.qcow2");
  place.qemu("compare", "-q", "flat.qcow2", "e.qcow2");
  assert.equal(JSON.parse(place.qemu("check", "--output=json", "e.qcow2"))["allocated-clusters"] ?? 0, 0);
});

test("the options of copies, commits and maps are qemu-img's", { skip }, () => {
  using place = new Place();
  sample(place);
  const both = (args: string[], target: string) => {
    place.lodge(...args, `ours-${target}`);
    place.qemu(...args, `theirs-${target}`);
    const sizes = ["ours", "theirs"].map((who) => statSync(place.path(`${who}-${target}`)).blocks * 512);
    place.qemu("compare", "-q", `ours-${target}`, `theirs-${target}`);
    return sizes as [number, number];
  };
  place.qemu("create", "-q", "-f", "qcow2", "small.qcow2", "4M");
  place.io("small.qcow2", "write -P 5 0 4k", "write -z 4k 60k", "write -P 6 64k 4k", "write -P 7 3M 4k");
  // All of it is written; runs of zeros are from 64 KiB on not.
  assert.deepEqual(both(["convert", "-q", "-S", "0", "-O", "raw", "small.qcow2"], "all.raw"), [4 << 20, 4 << 20]);
  const [ours, theirs] = both(["convert", "-S", "64k", "-O", "raw", "small.qcow2"], "runs.raw");
  assert.ok(ours <= theirs + 65536 && ours >= 72 << 10, `${ours} ${theirs}`);
  // A copy on what the source stands on has only what is the source's own.
  place.qemu("create", "-q", "-f", "qcow2", "-b", "a.qcow2", "-F", "qcow2", "top.qcow2");
  place.io("top.qcow2", "write -P 7 128k 64k", "write -z 0 64k");
  const [own] = both(["convert", "-O", "qcow2", "-B", "a.qcow2", "-F", "qcow2", "top.qcow2"], "copy.qcow2");
  assert.ok(own < 1 << 20);
  place.qemu("compare", "-q", "top.qcow2", "ours-copy.qcow2");
  place.qemu("check", "-q", "ours-copy.qcow2");
  // Into a target that is there, which holds something else, or is known to be empty.
  place.qemu("create", "-q", "-f", "raw", "there.raw", "4M");
  place.lodge("convert", "-n", "--target-is-zero", "-O", "raw", "small.qcow2", "there.raw");
  place.qemu("compare", "-q", "there.raw", "small.qcow2");
  place.io("there.raw", "write -P 9 1M 1M");
  place.lodge("convert", "-n", "-O", "raw", "small.qcow2", "there.raw");
  place.qemu("compare", "-q", "there.raw", "small.qcow2");
  for (const range of [["-s", "64k"], ["-s", "512k", "-l", "600k"], ["--max-length=1100M"]]) {
    const map = ["map", "--output=json", ...range, "a.qcow2"];
    assert.deepEqual(JSON.parse(place.lodge(...map)), JSON.parse(place.qemu(...map)), range.join(" "));
  }
  // Over an image between, which stays as it is.
  place.qemu("create", "-q", "-f", "qcow2", "-b", "top.qcow2", "-F", "qcow2", "above.qcow2");
  place.io("above.qcow2", "write -P 3 256k 64k");
  place.qemu("convert", "-O", "qcow2", "above.qcow2", "flat.qcow2");
  const files = ["above.qcow2", "top.qcow2"].map((name) => readFileSync(place.path(name)));
  place.lodge("commit", "-q", "-b", "a.qcow2", "above.qcow2");
  place.qemu("compare", "-q", "a.qcow2", "flat.qcow2");
  place.qemu("check", "-q", "a.qcow2");
  assert.deepEqual(
    ["above.qcow2", "top.qcow2"].map((name) => readFileSync(place.path(name))),
    files,
  );
  // A backing file that is not there is only named on request.
  const create = ["create", "-q", "-f", "qcow2", "-b", "none.qcow2", "-F", "qcow2"];
  assert.match(
    place.run(process.execPath, bin, "image", ...create, "x.qcow2", "1M").stderr,
    /none\.qcow2 cannot be opened/,
  );
  place.lodge(...create, "-u", "x.qcow2", "1M");
  assert.equal(JSON.parse(place.lodge("info", "--json", "x.qcow2"))["backing-filename"], "none.qcow2");
});

test("snapshots, sizes and preallocation", { skip }, () => {
  using place = new Place();
  sample(place);
  place.lodge("snapshot", "-c", "before", "a.qcow2");
  place.qemu("convert", "-O", "qcow2", "a.qcow2", "flat.qcow2");
  place.io("a.qcow2", "write -P 1 0 1M");
  place.qemu("check", "-q", "a.qcow2");
  assert.match(place.qemu("snapshot", "-l", "a.qcow2"), /before/);
  assert.match(place.lodge("snapshot", "-l", "a.qcow2"), /^1 +before/m);
  place.lodge("snapshot", "-a", "before", "a.qcow2");
  place.qemu("compare", "-q", "flat.qcow2", "a.qcow2");
  place.lodge("snapshot", "-d", "before", "a.qcow2");
  place.qemu("check", "-q", "a.qcow2");
  place.lodge("resize", "-q", "a.qcow2", "+1G");
  assert.equal(JSON.parse(place.qemu("info", "--output=json", "a.qcow2"))["virtual-size"], (2 << 30) >>> 0);
  const { status, stderr } = place.run(process.execPath, bin, "image", "resize", "a.qcow2", "1M");
  assert.equal(status, 2);
  assert.match(stderr, /^lodge: a\.qcow2: 1048576 bytes are less than its 2147483648: .* --shrink\n$/);
  place.lodge("resize", "-q", "--shrink", "a.qcow2", "10M");
  place.qemu("check", "-q", "a.qcow2");
  for (const how of ["metadata", "falloc", "full"]) {
    place.lodge("create", "-q", "-f", "qcow2", "-o", `preallocation=${how}`, "p.qcow2", "20M");
    const { "allocated-clusters": allocated } = JSON.parse(place.qemu("check", "--output=json", "p.qcow2"));
    assert.equal(allocated, 320, how);
    assert.equal(statSync(place.path("p.qcow2")).blocks * 512 > 20 << 20, how !== "metadata", how);
  }
});

test("check repairs what QEMU left behind", { skip }, () => {
  using place = new Place();
  sample(place);
  const image = place.path("a.qcow2");
  const bytes = readFileSync(image);
  // The refcount of the last cluster that is in use: data is counted as free.
  const block = Number(bytes.readBigUInt64BE(Number(bytes.readBigUInt64BE(48))));
  bytes.writeUInt16BE(0, block + 10 * 2);
  bytes.writeUInt16BE(7, block + 11 * 2);
  writeFileSync(image, bytes);
  const { status } = place.run(process.execPath, bin, "image", "check", "-q", "a.qcow2");
  assert.equal(status, 2);
  place.qemu("convert", "-O", "raw", "a.qcow2", "before.raw");
  assert.match(place.lodge("check", "--repair", "a.qcow2"), /errors and .* lost clusters were mended/);
  place.qemu("check", "-q", "a.qcow2");
  place.qemu("compare", "-q", "-F", "raw", "a.qcow2", "before.raw");
});

test("what is wrong is one line, and leaves nothing", { skip }, () => {
  using place = new Place();
  sample(place);
  for (const [args, said] of [
    [["create", "-f", "qcow2", "x", "5Q"], /5Q is no size/],
    [["create", "-f", "qcow2", "x"], /needs a size/],
    [["create", "-f", "qcow2", "-b", "a.qcow2", "x"], /name the backing file's format/],
    [["create", "-f", "qcow2", "-b", "none", "-F", "raw", "x"], /none cannot be opened/],
    [["create", "-f", "qcow2", "-o", "cluster_size=3000", "x", "1G"], /a cluster size of 3000/],
    [["create", "-f", "vmdk", "x", "1G"], /vmdk cannot be made/],
    [["convert", "-O", "qcow2", "-o", "refcount_bits=3", "a.qcow2", "x"], /refcounts of 3 bits/],
    [["snapshot", "-a", "none", "a.qcow2"], /there is no snapshot none/],
  ] as const) {
    const { status, stderr } = place.run(process.execPath, bin, "image", ...args);
    assert.equal(status, 2, args.join(" "));
    assert.match(stderr, said);
    assert.equal(stderr.trimEnd().split("\n").length, 1);
    assert.equal(existsSync(place.path("x")), false, args.join(" "));
  }
});

test("bitmaps are made and changed, and QEMU has them the same", { skip }, () => {
  using place = new Place();
  sample(place);
  const bitmaps = () => JSON.parse(place.qemu("info", "--output=json", "a.qcow2"))["format-specific"].data.bitmaps;
  place.lodge("bitmap", "--add", "a.qcow2", "one");
  place.lodge("bitmap", "--add", "--disable", "-g", "4k", "a.qcow2", "two");
  assert.deepEqual(bitmaps(), [
    { flags: ["auto"], name: "one", granularity: 65536 },
    { flags: [], name: "two", granularity: 4096 },
  ]);
  place.io("a.qcow2", "write 0 64k");
  place.lodge("bitmap", "--enable", "--merge", "one", "a.qcow2", "two");
  place.lodge("bitmap", "--disable", "--clear", "a.qcow2", "one");
  assert.deepEqual(
    bitmaps().map(({ flags }: { flags: string[] }) => flags),
    [[], ["auto"]],
  );
  place.lodge("bitmap", "--remove", "a.qcow2", "one");
  place.qemu("bitmap", "--remove", "a.qcow2", "two");
  place.qemu("check", "-q", "a.qcow2");
  for (const [args, message] of [
    [["a.qcow2", "one"], /say what is to be done/],
    [["--clear", "a.qcow2", "one"], /bitmap "one": there is none of that name/],
    [["--add", "-g", "3k", "a.qcow2", "one"], /a granularity of 3072: it is a power of two/],
    [["-g", "4k", "--clear", "a.qcow2", "one"], /--granularity goes with --add/],
  ] as const) {
    const { status, stderr } = place.run(process.execPath, bin, "image", "bitmap", ...args);
    assert.equal(status, 2, stderr);
    assert.match(stderr, message);
  }
});
