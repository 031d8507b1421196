/** Long random lives of images, beside a plain buffer; QEMU's tools look at the image in between. */

import assert from "node:assert/strict";
import { mkdtempDisposableSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { qemuCheck, qemuImg, qemuMissing } from "../../testing/qemu.ts";
import { Random, runSeed } from "../../testing/random.ts";
import { HostFile } from "../file/host-file.ts";
import { openImage } from "../open.ts";
import { checkQcow2 } from "./check/check.ts";
import { type CreateQcow2Options, createQcow2 } from "./create.ts";
import type { Qcow2Image } from "./qcow2-image.ts";
import { applySnapshot, createSnapshot, deleteSnapshot } from "./snapshots.ts";

const SEED = runSeed();
const ROUNDS = 2;
const STEPS = 60;

const SHAPES: Record<string, Partial<CreateQcow2Options>> = {
  "64 KiB clusters": {},
  "version 2": { version: 2, clusterSize: 4096 },
  "512 B clusters": { clusterSize: 512 },
  "1-bit refcounts": { clusterSize: 1024, refcountBits: 1 },
  "2-bit refcounts": { clusterSize: 2048, refcountBits: 2 },
  "8-bit refcounts": { clusterSize: 4096, refcountBits: 8 },
  "64-bit refcounts": { clusterSize: 512, refcountBits: 64 },
  "2 MiB clusters": { clusterSize: 2 << 20, refcountBits: 32 },
  "extended L2 entries": { clusterSize: 16384, extendedL2: true },
  "zstd compression": { clusterSize: 8192, compression: "zstd" },
  "lazy refcounts": { clusterSize: 4096, lazyRefcounts: true },
};

for (const [name, shape] of Object.entries(SHAPES)) {
  for (const backing of [false, true]) {
    test(`${name}${backing ? " above a backing image" : ""}`, async () => {
      for (let round = 0; round < ROUNDS; round++) {
        const random = new Random(SEED + round);
        try {
          await live(random, shape, backing);
        } catch (cause) {
          throw new Error(`with SEED=${random.seed}: ${(cause as Error).message}`, { cause });
        }
      }
    });
  }
}

async function live(random: Random, shape: Partial<CreateQcow2Options>, backed: boolean): Promise<void> {
  using dir = mkdtempDisposableSync(join(tmpdir(), "lodge-model-"));
  const [path, flat, base] = ["image", "flat", "base"].map((name) => join(dir.path, name)) as [string, string, string];
  const clusterSize = shape.clusterSize ?? 65536;
  const most = Math.min(clusterSize * 40, 12 << 20);
  let model = new Uint8Array(512 * (1 + random.below(most / 512)));
  if (backed) {
    const below = new Uint8Array(512 * (1 + random.below(most / 512)));
    for (let at = 0; at < below.length; at += 512) below.fill(random.below(256), at, at + 512);
    writeFileSync(base, below);
    model.set(below.subarray(0, model.length));
  }
  const store = await HostFile.open(path, { create: true });
  const backing = { name: "base", format: "raw" };
  await createQcow2(store, { sizeBytes: model.length, ...shape, ...(backed ? { backing } : {}) });
  await store.close();
  const open = async () => (await openImage(path, { format: "qcow2", l2Bytes: 0 })) as Qcow2Image;
  let image = await open();
  // Also when a step fails.
  await using _closed = { [Symbol.asyncDispose]: () => image.close() };
  const kept: { id: string; model: Uint8Array<ArrayBuffer> }[] = [];
  const range = () => {
    const sectors = model.length / 512;
    const first = random.below(sectors);
    const longest = random.chance(0.3) ? sectors : 2 * Math.ceil(clusterSize / 512);
    return [first * 512, 512 * (1 + random.below(Math.min(longest, sectors - first)))] as const;
  };
  const steps: [number, () => Promise<void>][] = [
    [10, async () => writeSome(image, model, random, ...range())],
    [
      4,
      async () => {
        const [offset, length] = range();
        await image.writeZeroes(offset, length, random.chance(0.5));
        model.fill(0, offset, offset + length);
      },
    ],
    [
      3,
      async () => {
        const [offset, length] = range();
        await image.discard(offset, length);
        // What is read there now is what the model has from now on: zeros or what was there, by whole sectors.
        const now = new Uint8Array(length);
        await image.read(offset, [now]);
        for (let at = 0; at < length; at += 512) {
          const sector = now.subarray(at, at + 512);
          const zero = sector.every((byte) => byte === 0);
          assert.ok(
            zero || Buffer.compare(sector, model.subarray(offset + at, offset + at + 512)) === 0,
            "after discard",
          );
        }
        model.set(now, offset);
      },
    ],
    [2, () => image.flush()],
    [
      1,
      async () => {
        // Version 2 does not record a snapshot's size.
        if (shape.version === 2 && kept.length > 0) return;
        const sizeBytes = 512 * (1 + random.below((most * 1.5) / 512));
        const resized = new Uint8Array(sizeBytes);
        resized.set(model.subarray(0, sizeBytes));
        await image.resize(sizeBytes);
        model = resized;
      },
    ],
    [
      1,
      async () => {
        await image.close();
        await expectClean(path);
        image = await open();
      },
    ],
    [
      3,
      async () => {
        const [offset, length] = range();
        await expectSame(image, model, offset, length);
      },
    ],
    [1, async () => besideEachOther(image, model, random)],
    [
      2,
      async () => {
        const offset = random.below(Math.ceil(model.length / clusterSize)) * clusterSize;
        const data = model.slice(offset, offset + clusterSize);
        data.fill(random.below(256), random.below(data.length));
        await image.writeCompressed(offset, data);
        model.set(data, offset);
      },
    ],
    [
      1,
      async () => {
        if (kept.length >= 3) return;
        const name = `number ${random.below(1000)}`;
        try {
          const { id } = await createSnapshot(image, name);
          kept.push({ id, model: model.slice() });
        } catch (cause) {
          // Refcounts that are too narrow for a snapshot say so; nothing has happened then.
          assert.match((cause as Error).message, /too narrow/);
        }
      },
    ],
    [
      1,
      async () => {
        if (kept.length === 0) return;
        const { id, model: then } = random.pick(kept);
        try {
          await applySnapshot(image, id);
          model = then.slice();
        } catch (cause) {
          assert.match((cause as Error).message, /too narrow/);
        }
      },
    ],
    [
      1,
      async () => {
        if (kept.length === 0) return;
        const [gone] = kept.splice(random.below(kept.length), 1);
        await deleteSnapshot(image, gone!.id);
      },
    ],
  ];
  const lots = steps.flatMap(([weight, work]) => Array.from({ length: weight }, () => work));
  for (let step = 0; step < STEPS; step++) {
    await random.pick(lots)();
  }
  await expectSame(image, model, 0, model.length);
  await image.flush();
  await image.close();
  await expectClean(path);
  if (qemuMissing !== false) return;
  writeFileSync(flat, model);
  qemuImg("compare", "-f", "qcow2", "-F", "raw", path, flat);
}

async function writeSome(
  image: Qcow2Image,
  model: Uint8Array,
  random: Random,
  offset: number,
  length: number,
): Promise<void> {
  const data = new Uint8Array(length);
  for (let at = 0; at < length; at += 512) data.fill(1 + random.below(255), at, at + 512);
  const cut = random.below(length);
  model.set(data, offset);
  await image.write(offset, [data.subarray(0, cut), data.subarray(cut)]);
}

/** Requests in flight together, on ranges that do not overlap but may share clusters. */
async function besideEachOther(image: Qcow2Image, model: Uint8Array, random: Random): Promise<void> {
  const sectors = model.length / 512;
  const work: Promise<void>[] = [];
  for (let at = random.below(sectors), count = 0; count < 16 && at < sectors; count++) {
    const length = Math.min(sectors - at, 1 + random.below(24));
    if (random.chance(0.8)) {
      work.push(writeSome(image, model, random, at * 512, length * 512));
    } else {
      model.fill(0, at * 512, (at + length) * 512);
      work.push(image.writeZeroes(at * 512, length * 512, random.chance(0.5)));
    }
    if (random.chance(0.2)) work.push(image.flush());
    at += length + random.below(4);
  }
  await Promise.all(work);
}

/** Our own check and QEMU's find nothing. */
async function expectClean(path: string): Promise<void> {
  const store = await HostFile.open(path, { readOnly: true });
  const { messages } = await checkQcow2(store).finally(() => store.close());
  assert.deepEqual(messages, []);
  if (qemuMissing === false) qemuCheck(path);
}

async function expectSame(image: Qcow2Image, model: Uint8Array, offset: number, length: number): Promise<void> {
  const now = new Uint8Array(length);
  await image.read(offset, [now]);
  const wanted = model.subarray(offset, offset + length);
  if (Buffer.compare(now, wanted) === 0) return;
  const at = now.findIndex((byte, index) => byte !== wanted[index]);
  assert.fail(`byte ${offset + at} is ${now[at]} instead of ${wanted[at]}`);
}
