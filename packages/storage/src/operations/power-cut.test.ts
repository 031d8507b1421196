/** Copies by threads are cut off while tables are stored: the target stays whole, and has what was in it when it was flushed. */

import assert from "node:assert/strict";
import { mkdtempDisposableSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { FileJournal } from "../../testing/file-journal.ts";
import { qemuCheck, qemuMissing } from "../../testing/qemu.ts";
import { Random, runSeed } from "../../testing/random.ts";
import { HostFile } from "../file/host-file.ts";
import type { Image } from "../image.ts";
import { openImage } from "../open.ts";
import { checkQcow2 } from "../qcow2/check/check.ts";
import { Incompatible } from "../qcow2/layout.ts";
import { Qcow2Image } from "../qcow2/qcow2-image.ts";
import { readHeader } from "../qcow2/stored.ts";
import { type CopyOptions, copyImage } from "./copy.ts";
import { type CreateImageOptions, createImage } from "./create.ts";
import { extentsOf } from "./extents.ts";

const SEED = runSeed();
const SIZE = 12 << 20;
const CUTS = 24;
const QEMU_EVERY = 8;
const ZEROS = Buffer.alloc(512);

const TARGETS: [string, CreateImageOptions & { format: string }, CopyOptions][] = [
  ["qcow2", { format: "qcow2" }, {}],
  ["qcow2, by copy_file_range", { format: "qcow2" }, { offload: true }],
  ["qcow2 in clusters of 4 KiB", { format: "qcow2", clusterSize: 4096 }, {}],
  ["version 2", { format: "qcow2", version: 2 }, {}],
  ["lazy refcounts", { format: "qcow2", lazyRefcounts: true }, {}],
  ["subclusters, which are copied one by one", { format: "qcow2", extendedL2: true }, {}],
  ["compressed", { format: "qcow2" }, { compressed: true }],
  ["raw", { format: "raw" }, {}],
];

for (const [name, shape, options] of TARGETS) {
  test(`power cuts: a copy to ${name}`, { skip: qemuMissing }, async () => {
    using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-copy-cut-"));
    const random = new Random(SEED);
    const path = (file: string) => join(folder.path, file);
    const content = randomContent(random);
    writeFileSync(path("source"), content);
    await createImage(path("target"), { ...shape, sizeBytes: SIZE });
    using journal = new FileJournal([path("target")]);
    const flushes = [{ moment: 0, lasting: [] as Lasting[] }];
    const source = await openImage(path("source"), { format: "raw", readOnly: true });
    const target = await openImage(path("target"), { format: shape.format });
    let copied = false;
    const flusher = (async () => {
      while (!copied) {
        const lasting = await heldBy(target);
        await target.flush();
        flushes.push({ moment: journal.clock.now, lasting });
        await new Promise(setImmediate);
      }
    })();
    try {
      await copyImage(source, target, { ...options, parallel: 2 });
    } finally {
      copied = true;
      await flusher;
    }
    await target.flush();
    const whole = journal.clock.now;
    await target.close();
    await source.close();
    for (let cut = 0; cut <= CUTS; cut++) {
      // The last is one of what was flushed.
      const moment = cut === CUTS ? whole : random.below(whole + 1);
      const when = `at ${moment} of ${whole}, SEED=${SEED}`;
      writeFileSync(path("left"), journal.cutAt(moment, random).get(path("target"))!);
      if (shape.format === "qcow2") await expectWhole(path("left"), cut % QEMU_EVERY === 0, when);
      const left = await openImage(path("left"), { format: shape.format, readOnly: true });
      const now = Buffer.alloc(SIZE);
      await left.read(0, [now]);
      await left.close();
      const { lasting } = flushes.findLast((flush) => flush.moment <= moment)!;
      const must = cut === CUTS ? [{ start: 0, length: SIZE }] : lasting;
      for (const { start, length } of must) expectSame(now, content, start, length, when);
      for (let at = 0; at < SIZE; at += 512) {
        if (now.compare(ZEROS, 0, 512, at, at + 512) !== 0) expectSame(now, content, at, 512, when);
      }
    }
  });
}

/** Guest bytes that a copy has ended with. */
interface Lasting {
  start: number;
  length: number;
}

/** What leads to data now. A raw file does not say what of it was written by whom. */
async function heldBy(target: Image): Promise<Lasting[]> {
  const held: Lasting[] = [];
  if (!(target instanceof Qcow2Image)) return held;
  for await (const { start, length, data, zero } of extentsOf(target)) if (data && !zero) held.push({ start, length });
  return held;
}

async function expectWhole(path: string, qemu: boolean, when: string): Promise<void> {
  const store = await HostFile.open(path);
  const dirty = ((await readHeader(store)).incompatible & Incompatible.DIRTY) !== 0n;
  const { corruptions, messages } = await checkQcow2(store, dirty ? "all" : "none");
  await store.close();
  assert.equal(corruptions, 0, `${when}: ${messages.join("; ")}`);
  if (qemu) qemuCheck(path, true);
}

function expectSame(now: Buffer, then: Buffer, start: number, length: number, when: string): void {
  if (now.compare(then, start, start + length, start, start + length) === 0) return;
  throw new Error(`${when}: from ${start} to ${start + length} it is not what was copied there`);
}

/** Data, zeros, and both of them in every block. */
function randomContent(random: Random): Buffer {
  const content = Buffer.alloc(SIZE);
  for (let at = 0; at < SIZE; ) {
    const end = Math.min(SIZE, at + 512 * (1 + random.below(random.chance(0.2) ? 4000 : 200)));
    if (random.chance(0.7)) for (; at < end; at += 512) content.fill(random.below(256), at, at + 512);
    at = end;
  }
  return content;
}
