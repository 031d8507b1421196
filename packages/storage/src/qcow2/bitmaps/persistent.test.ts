/** Bitmaps that images keep, ours and QEMU's in turn: what we record QEMU reads, what it records we go on with. */

import assert from "node:assert/strict";
import { copyFileSync, mkdtempDisposableSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { missing, qemuNbd, run } from "../../../testing/peers.ts";
import { qemuCheck, qemuImg, qemuIo, qemuMissing } from "../../../testing/qemu.ts";
import { Random, runSeed } from "../../../testing/random.ts";
import { DiskBitmaps } from "../../bitmaps/disk-bitmaps.ts";
import { openImage } from "../../open.ts";
import { createImage } from "../../operations/create.ts";
import type { Qcow2Image } from "../qcow2-image.ts";
import { applySnapshot, createSnapshot } from "../snapshots.ts";

const MIB = 1 << 20;
const skip = qemuMissing || missing("qemu-nbd", "nbdinfo");
const folder = () => mkdtempDisposableSync(join(tmpdir(), "lodge-bitmaps-"));
const open = async (path: string) => (await openImage(path, { format: "qcow2" })) as Qcow2Image;

interface Told {
  name: string;
  flags: string[];
  granularity: number;
}

/** What qemu-img info says of an image's bitmaps. */
const told = (path: string): Told[] =>
  JSON.parse(qemuImg("info", "--output=json", path))["format-specific"].data.bitmaps ?? [];
const flags = (path: string) => Object.fromEntries(told(path).map((one) => [one.name, one.flags]));

/** What is dirty by QEMU's reading, as bytes of the disk from and to. */
async function dirty(path: string, name: string): Promise<[number, number][]> {
  using dir = folder();
  const socket = join(dir.path, "nbd");
  await using _ = await qemuNbd(socket, "--read-only", "--format=qcow2", `--bitmap=${name}`, path);
  const context = `qemu:dirty-bitmap:${name}`;
  const map = JSON.parse(await run("nbdinfo", "--json", `--map=${context}`, `nbd+unix:///?socket=${socket}`));
  const runs: [number, number][] = [];
  for (const { offset, length, type } of map as { offset: number; length: number; type: number }[]) {
    if (type !== 1) continue;
    const last = runs.at(-1);
    if (last?.[1] === offset) last[1] = offset + length;
    else runs.push([offset, offset + length]);
  }
  return runs;
}

test("QEMU's bitmaps follow our writes, and are in use meanwhile", { skip }, async () => {
  using dir = folder();
  const made = join(dir.path, "made.qcow2");
  qemuImg("create", "-q", "-f", "qcow2", made, "8M");
  qemuImg("bitmap", "--add", made, "follows");
  qemuImg("bitmap", "--add", "--disable", "-g", "4096", made, "stays");
  qemuImg("bitmap", "--add", "-g", "1M", made, "coarse");
  qemuIo(made, "write 1M 64k");
  const clean = { follows: ["auto"], stays: [], coarse: ["auto"] };
  const inUse = { follows: ["in-use", "auto"], stays: ["in-use"], coarse: ["in-use", "auto"] };
  const sector = new Uint8Array(512).fill(1);
  type Change = [string, (image: Qcow2Image) => Promise<unknown>, follows: [number, number][]];
  const before: [number, number] = [MIB, MIB + 65536];
  const changes: Change[] = [
    ["nothing", async () => {}, [before]],
    ["a write", (image) => image.write(0, [sector]), [[0, 65536], before]],
    [
      "writes at once",
      (image) => Promise.all([image.write(0, [sector]), image.write(4 * MIB - 512, [new Uint8Array(1024)])]),
      [[0, 65536], before, [4 * MIB - 65536, 4 * MIB + 65536]],
    ],
    ["a discard", (image) => image.discard(2 * MIB, MIB), [before, [2 * MIB, 3 * MIB]]],
    ["zeros", (image) => image.writeZeroes(8 * MIB - 4096, 4096, true), [before, [8 * MIB - 65536, 8 * MIB]]],
    [
      "a compressed write",
      (image) => image.writeCompressed(3 * MIB, new Uint8Array(65536).fill(3)),
      [before, [3 * MIB, 3 * MIB + 65536]],
    ],
    [
      "a snapshot that is gone back to",
      async (image) => {
        await createSnapshot(image, "before");
        await applySnapshot(image, "before");
      },
      [[0, 8 * MIB]],
    ],
    ["a longer disk", (image) => image.resize(16 * MIB), [before]],
    ["a shorter disk", (image) => image.resize(MIB + 4096), [[MIB, MIB + 4096]]],
  ];
  for (const [what, change, expected] of changes) {
    const path = join(dir.path, "changed.qcow2");
    copyFileSync(made, path);
    const image = await open(path);
    await change(image);
    await image.flush();
    const cut = join(dir.path, "cut.qcow2");
    copyFileSync(path, cut);
    await image.close();
    assert.deepEqual(flags(path), clean, what);
    assert.deepEqual(await dirty(path, "follows"), expected, what);
    assert.deepEqual(await dirty(path, "stays"), [], what);
    qemuCheck(path);
    // What a machine that dies leaves says so, and nobody takes it for true.
    if (what === "nothing") continue;
    assert.deepEqual(flags(cut), inUse, what);
    const reopened = await open(cut);
    await reopened.write(0, [sector]);
    const bitmaps = new DiskBitmaps(() => reopened);
    const abandoned = (await bitmaps.list()).filter((one) => one.abandoned).map(({ name }) => name);
    assert.deepEqual(abandoned, ["follows", "stays", "coarse"]);
    await assert.rejects(bitmaps.clear("follows"), /has not kept it: it can only be removed/);
    await bitmaps.remove("stays");
    await reopened.close();
    const { stays: _, ...left } = inUse;
    assert.deepEqual(flags(cut), left);
    qemuCheck(cut, true);
  }
});

for (const clusterSize of [512, 65536]) {
  test(`bitmaps of ours under random writes, clusters of ${clusterSize} bytes`, { skip }, async () => {
    using dir = folder();
    const path = join(dir.path, "disk.qcow2");
    const seed = runSeed();
    const random = new Random(seed);
    const sizeBytes = 16 * MIB + 512 * random.below(2000);
    await createImage(path, { format: "qcow2", sizeBytes, clusterSize });
    const grains = [512, 4096, 65536, 2 * MIB];
    const models = grains.map((grain) => ({ grain, bits: new Uint8Array(Math.ceil(sizeBytes / grain)) }));
    {
      const image = await open(path);
      const bitmaps = new DiskBitmaps(() => image);
      for (const granularity of grains) await bitmaps.add(`of ${granularity}`, { granularity, persistent: true });
      await assert.rejects(bitmaps.add("of 512"), /there is one of that name already/);
      await assert.rejects(bitmaps.add("x", { granularity: 1000 }), /a granularity of 1000/);
      await assert.rejects(bitmaps.add("", {}), /1 to 1023 bytes/);
      await assert.rejects(bitmaps.clear("y"), /there is none of that name/);
      await image.close();
    }
    for (let round = 0; round < 3; round++) {
      const image = await open(path);
      for (let writes = 0; writes < 12; writes++) {
        const length = 512 * (1 + random.below(random.chance(0.1) ? 8000 : 20));
        const offset = 512 * random.below((sizeBytes - length) / 512);
        if (random.chance(0.3)) await image.writeZeroes(offset, length, true);
        else await image.write(offset, [new Uint8Array(length).fill(1 + random.below(255))]);
        for (const { grain, bits } of models)
          bits.fill(1, Math.floor(offset / grain), Math.ceil((offset + length) / grain));
      }
      await image.close();
      qemuCheck(path);
      for (const { grain, bits } of models) {
        const seen = new Uint8Array(bits.length);
        for (const [from, to] of await dirty(path, `of ${grain}`)) seen.fill(1, from / grain, Math.ceil(to / grain));
        assert.ok(Buffer.from(seen).equals(bits), `SEED=${seed}: round ${round}, granularity ${grain}`);
      }
    }
    // QEMU goes on with them.
    qemuIo(path, "write 0 64k");
    qemuImg("bitmap", "--clear", path, "of 65536");
    qemuImg("bitmap", "--merge", "of 512", path, "of 65536");
    const image = await open(path);
    await new DiskBitmaps(() => image).remove("of 512");
    await image.close();
    assert.deepEqual(
      told(path)
        .map(({ name }) => name)
        .sort(),
      ["of 2097152", "of 4096", "of 65536"],
    );
    qemuCheck(path);
    const bits = models[2]!.bits.fill(1, 0, 1);
    const seen = new Uint8Array(bits.length);
    for (const [from, to] of await dirty(path, "of 65536")) seen.fill(1, from / 65536, Math.ceil(to / 65536));
    assert.ok(Buffer.from(seen).equals(bits), `SEED=${seed}: merged by QEMU`);
  });
}

test("an image of 0 bytes keeps no bitmaps, and one that is shrunk to that loses its own, so that QEMU opens it", {
  skip,
}, async () => {
  using dir = folder();
  const path = join(dir.path, "empty.qcow2");
  await createImage(path, { format: "qcow2", sizeBytes: 0 });
  const empty = await open(path);
  const bitmaps = new DiskBitmaps(() => empty);
  await assert.rejects(bitmaps.add("a", { persistent: true }), /0 bytes keeps no bitmaps: resize it first/);
  await empty.resize(MIB);
  await bitmaps.add("a", { persistent: true });
  await empty.close();
  assert.deepEqual(flags(path), { a: ["auto"] });
  const full = await open(path);
  await full.resize(0);
  await full.close();
  assert.deepEqual(told(path), []);
  qemuCheck(path);
});
