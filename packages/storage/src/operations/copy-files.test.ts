/** Copies by threads, of disks that are held in every way, beside the disk's content in memory. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempDisposableSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { qemuCheck, qemuMissing } from "../../testing/qemu.ts";
import { Random, runSeed } from "../../testing/random.ts";
import type { Image } from "../image.ts";
import { openImage } from "../open.ts";
import { checkQcow2 } from "../qcow2/check/check.ts";
import { Qcow2Image } from "../qcow2/qcow2-image.ts";
import { type CopyOptions, copyImage } from "./copy.ts";
import { type CreateImageOptions, createImage } from "./create.ts";
import { extentsOf } from "./extents.ts";

const SEED = runSeed();
const PROCESS = join(import.meta.dirname, "../../testing/copy-process.ts");
const BLOCK = 4096;
const MIB = 1 << 20;

const folder = () => mkdtempDisposableSync(join(tmpdir(), "lodge-copy-files-"));

const SOURCES: Record<string, CreateImageOptions> = {
  raw: { format: "raw" },
  qcow2: { format: "qcow2" },
  "qcow2 in small clusters": { format: "qcow2", clusterSize: 1024 },
  "qcow2 with subclusters": { format: "qcow2", extendedL2: true },
};

const TARGETS: Record<string, CreateImageOptions> = {
  raw: { format: "raw" },
  qcow2: { format: "qcow2" },
  "version 2": { format: "qcow2", version: 2, clusterSize: BLOCK },
  "clusters of 1 MiB": { format: "qcow2", clusterSize: MIB },
  "clusters of 2 MiB": { format: "qcow2", clusterSize: 2 * MIB },
  "small clusters": { format: "qcow2", clusterSize: 512 },
  subclusters: { format: "qcow2", extendedL2: true },
  preallocated: { format: "qcow2", preallocation: "metadata" },
};

for (const [from, sourceOptions] of Object.entries(SOURCES)) {
  test(`copies of ${from}`, async () => {
    for (const [index, [to, targetOptions]] of Object.entries(TARGETS).entries()) {
      const random = new Random(SEED + index);
      try {
        await copies(random, sourceOptions, targetOptions);
      } catch (cause) {
        throw new Error(`to ${to}, with SEED=${SEED}: ${(cause as Error).message}`, { cause });
      }
    }
  });
}

async function copies(random: Random, from: CreateImageOptions, to: CreateImageOptions): Promise<void> {
  using dir = folder();
  const path = (name: string) => join(dir.path, name);
  const sizeBytes = 20 * MIB + 512 * random.below(4096);
  const model = Buffer.alloc(sizeBytes);
  const backed = from.format === "qcow2" && random.below(2) === 0;
  if (backed) {
    await createImage(path("base"), { format: "raw", sizeBytes: 12 * MIB });
    const base = await openImage(path("base"), { format: "raw" });
    await fill(random, base, model);
    await base.close();
  }
  const backing = backed && { backing: { name: path("base"), format: "raw" } };
  await createImage(path("source"), { ...from, sizeBytes, ...backing });
  const made = await openImage(path("source"), { format: from.format! });
  await fill(random, made, model);
  await made.close();

  const source = await openImage(path("source"), { format: from.format!, readOnly: true });
  for (const options of [{}, { sparseBytes: 0 }, { sparseBytes: 65536, parallel: 1 }, { parallel: 1 }]) {
    await createImage(path("target"), { ...to, sizeBytes });
    await copied(source, path("target"), to.format!, model, options);
  }
  // Over what is there already, and between what is.
  await createImage(path("target"), { ...to, sizeBytes });
  const target = await openImage(path("target"), { format: to.format! });
  await fill(random, target, Buffer.alloc(sizeBytes));
  await target.close();
  await copied(source, path("target"), to.format!, model, { overZeros: true });
  await source.close();
}

async function copied(source: Image, path: string, format: string, model: Buffer, options: CopyOptions): Promise<void> {
  const target = await openImage(path, { format });
  let last = 0;
  await copyImage(source, target, { ...options, progress: (done) => (last = done) });
  assert.equal(last, model.length);
  await target.close();
  const copy = await openImage(path, { format, readOnly: true });
  const bytes = Buffer.alloc(model.length);
  await copy.read(0, [bytes]);
  await copy.close();
  for (let at = 0; at < bytes.length; at += 512) {
    assert.ok(bytes.compare(model, at, at + 512, at, at + 512) === 0, `${JSON.stringify(options)}: differs at ${at}`);
  }
  if (format === "qcow2") qemuCheck(path);
}

/** Writes runs of blocks, some of them zeros, so that also single blocks and clusters are. */
async function fill(random: Random, image: Image, model: Buffer): Promise<void> {
  const end = Math.min(image.sizeBytes, model.length);
  for (let run = 0; run < 24; run++) {
    const start = 512 * random.below(end / 512);
    const length = Math.min(end - start, 512 * (1 + random.below(random.below(3) === 0 ? 6144 : 300)));
    const bytes = Buffer.alloc(length, 1 + random.below(255));
    for (let hole = random.below(4); hole > 0; hole--) {
      const at = BLOCK * random.below(length / BLOCK);
      bytes.fill(0, at, Math.min(length, at + BLOCK * (1 + random.below(40))));
    }
    await image.write(start, [bytes]);
    bytes.copy(model, start);
    if (run % 8 === 7) {
      const zero = 65536 * random.below(end / 65536);
      const zeros = Math.min(end - zero, 65536 * (1 + random.below(20)));
      await image.writeZeroes(zero, zeros, true);
      model.fill(0, zero, zero + zeros);
    }
  }
}

test("a copy takes no more of the host's disk than it has data, wherever the zeros are", async () => {
  using dir = folder();
  const [from, to] = [join(dir.path, "from"), join(dir.path, "to")];
  // Much without zeros, so that space is set aside; then zeros that are stored, data with holes, and zeros at the end.
  const bytes = Buffer.alloc(112 * MIB);
  bytes.fill(7, 0, 64 * MIB);
  for (let at = 72 * MIB; at < 80 * MIB; at += 16 * BLOCK) bytes.fill(8, at, at + BLOCK);
  bytes.fill(9, 80 * MIB, 100 * MIB);
  bytes.fill(9, 100 * MIB + BLOCK, 100 * MIB + 2 * BLOCK);
  writeFileSync(from, bytes);
  const dataBytes = 84.5 * MIB + BLOCK;
  for (const format of ["raw", "qcow2"]) {
    await createImage(to, { format, sizeBytes: bytes.length });
    const source = await openImage(from, { format: "raw", readOnly: true });
    const target = await openImage(to, { format });
    await copyImage(source, target);
    // The last cluster ends in zeros, which nobody wrote; it is there before the image is opened again.
    const last = Buffer.alloc(MIB, 1);
    await target.read(100 * MIB, [last]);
    assert.ok(last.equals(bytes.subarray(100 * MIB, 101 * MIB)), format);
    await target.close();
    await source.close();
    const { blocks, size } = statSync(to);
    if (format === "qcow2") assert.equal(size % 65536, 0, "the file ends where a cluster does");
    assert.ok(
      blocks * 512 >= dataBytes && blocks * 512 <= dataBytes + MIB,
      `${format}: ${blocks * 512} of ${dataBytes}`,
    );
    if (format === "qcow2") qemuCheck(to);
  }
});

test("a source that is shorter than it says is an error, and the target stays whole", async () => {
  using dir = folder();
  const [from, to] = [join(dir.path, "from"), join(dir.path, "to")];
  writeFileSync(from, Buffer.alloc(24 * MIB, 1));
  await createImage(to, { format: "qcow2", sizeBytes: 24 * MIB });
  const source = await openImage(from, { format: "raw", readOnly: true });
  const target = await openImage(to, { format: "qcow2" });
  // Not before the copy has looked how it is held.
  const progress = (done: number) => {
    if (done < 16 * MIB) truncateSync(from, 20 * MIB);
  };
  await assert.rejects(copyImage(source, target, { progress }), /from: read failed: the file has become shorter/);
  await source.close();
  await wholeAfterClosing(target, to);
});

test("a copy that is cut off holds nothing", async () => {
  using dir = folder();
  const [from, to] = [join(dir.path, "from"), join(dir.path, "to")];
  writeFileSync(from, Buffer.alloc(48 * MIB, 1));
  await createImage(to, { format: "qcow2", sizeBytes: 48 * MIB });
  const source = await openImage(from, { format: "raw", readOnly: true });
  const target = await openImage(to, { format: "qcow2" });
  const cut = new AbortController();
  await assert.rejects(
    copyImage(source, target, { signal: cut.signal, progress: () => cut.abort() }),
    /AbortError|aborted/,
  );
  // Whoever waits for the same clusters would wait for ever.
  await target.write(0, [Buffer.alloc(48 * MIB, 3)]);
  await source.close();
  await wholeAfterClosing(target, to);
});

test("a copy whose process is killed leaves lost space at most: what has a place in the image was copied there before", async () => {
  using dir = folder();
  const [from, to] = [join(dir.path, "from"), join(dir.path, "to")];
  const random = new Random(SEED);
  const bytes = Buffer.alloc(48 * MIB);
  for (let at = 0; at < bytes.length; at += BLOCK)
    bytes.fill(random.below(4) === 0 ? 0 : 1 + random.below(255), at, at + BLOCK);
  writeFileSync(from, bytes);
  for (const clusterSize of [BLOCK, 65536]) {
    for (let round = 0; round < 2; round++) {
      await createImage(to, { format: "qcow2", clusterSize, sizeBytes: bytes.length });
      // Something was there and is free again, so that the copy gets clusters that were used before.
      const before = await openImage(to, { format: "qcow2" });
      await before.write(0, [Buffer.alloc(8 * MIB, 255)]);
      await before.flush();
      await before.discard(0, 8 * MIB);
      await before.close();
      const until = String((1 + random.below(40)) * MIB);
      const { signal, stderr } = spawnSync(process.execPath, [PROCESS, from, to, until], { encoding: "utf8" });
      const what = `clusters of ${clusterSize}, killed at ${until}, SEED=${SEED}`;
      assert.equal(signal, "SIGKILL", `${what}: ${stderr}`);
      if (qemuMissing === false) qemuCheck(to, true);
      const target = await openImage(to, { format: "qcow2" });
      let copied = 0;
      for await (const { start, length, data } of extentsOf(target)) {
        if (!data) continue;
        const read = Buffer.alloc(length);
        await target.read(start, [read]);
        assert.ok(read.equals(bytes.subarray(start, start + length)), `${what}: not what was copied, at ${start}`);
        copied += length;
      }
      await target.close();
      assert.ok(copied > 0, `${what}: something was stored before`);
    }
  }
});

async function wholeAfterClosing(target: Image, path: string): Promise<void> {
  assert.ok(target instanceof Qcow2Image);
  const { store } = target.metadata;
  await target.flush();
  const { corruptions, leaks } = await checkQcow2(store, undefined);
  assert.deepEqual({ corruptions, leaks }, { corruptions: 0, leaks: 0 });
  await target.close();
  qemuCheck(path);
}
