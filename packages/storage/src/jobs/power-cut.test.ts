/** A power cut at some moment of a block job, with any order of what was not flushed: the disk is there, with all that its guest had flushed. */

import assert from "node:assert/strict";
import { mkdirSync, mkdtempDisposableSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { test } from "node:test";
import { FileJournal } from "../../testing/file-journal.ts";
import { makeChain, momentOf } from "../../testing/job-disk.ts";
import { qemuCheck, qemuMissing } from "../../testing/qemu.ts";
import { Random, runSeed } from "../../testing/random.ts";
import { Drive } from "../drive/drive.ts";
import { openImage } from "../open.ts";
import { createImage } from "../operations/create.ts";
import { checkQcow2 } from "../qcow2/check/check.ts";
import { Qcow2Image } from "../qcow2/qcow2-image.ts";
import { type BlockJob, startBackup, startCommit, startMirror, startStream } from "./index.ts";

const SEED = runSeed();
const SECTOR = 512;
const CUTS = 16;
const QEMU_EVERY = 8;
const NAMES = ["base.raw", "one.qcow2", "two.qcow2", "top.qcow2"];

type Start = (drive: Drive, target: string) => Promise<BlockJob>;

const JOBS: [name: string, targetFormat: string, start: Start][] = [
  ["mirror to qcow2", "qcow2", async (drive, to) => startMirror(drive, await openImage(to, { format: "qcow2" }))],
  [
    "mirror to raw, write-blocking",
    "raw",
    async (drive, to) => startMirror(drive, await openImage(to, { format: "raw" }), { mode: "write-blocking" }),
  ],
  ["backup to qcow2", "qcow2", async (drive, to) => startBackup(drive, await openImage(to, { format: "qcow2" }))],
  ["backup to raw", "raw", async (drive, to) => startBackup(drive, await openImage(to, { format: "raw" }))],
  ["stream", "raw", (drive) => startStream(drive)],
  ["stream down to a base", "raw", (drive) => startStream(drive, { base: drive.image.name.replace("top", "one") })],
  ["commit", "raw", (drive) => startCommit(drive)],
  ["commit of what is between", "raw", (drive) => startCommit(drive, { top: drive.image.name.replace("top", "two") })],
];

for (const [name, targetFormat, start] of JOBS) {
  test(`power cuts: ${name}`, { skip: qemuMissing }, async () => {
    using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-job-cut-"));
    const random = new Random(SEED);
    const { paths, model } = await makeChain(folder.path, NAMES, random);
    const target = join(folder.path, "target");
    await createImage(target, { format: targetFormat, sizeBytes: model.length });
    using journal = new FileJournal([...paths, target]);
    const drive = await Drive.open(paths.at(-1)!, { format: "qcow2" });
    const disks = [{ moment: 0, path: drive.image.name, format: drive.image.format }];
    const replaceImage = drive.replaceImage.bind(drive);
    drive.replaceImage = (image) => {
      const before = replaceImage(image);
      disks.push({ moment: journal.clock.now, path: image.name, format: image.format });
      return before;
    };
    const guest = new FlushingGuest(drive, model, journal, random);
    await guest.lives(5);
    const began = momentOf(drive);
    const job = await start(drive, target);
    const { content } = began;
    job.watch(({ event }) => event === "ready" && job.complete());
    let ended = Number.POSITIVE_INFINITY;
    const end = job.ended.then((outcome) => {
      assert.equal(outcome, "completed");
      ended = journal.clock.now;
    });
    while (ended === Number.POSITIVE_INFINITY) await guest.lives(1);
    await end;
    await guest.lives(5);
    const last = journal.clock.now;
    await drive.close();

    for (let cut = 0; cut < CUTS; cut++) {
      const moment = cut === 0 ? ended : random.below(last + 1);
      const when = `at ${moment} of ${last}, the end of the job was ${ended}, SEED=${SEED}`;
      const left = join(folder.path, `left-${cut}`);
      mkdirSync(left);
      for (const [path, bytes] of journal.cutAt(moment, random)) writeFileSync(join(left, basename(path)), bytes);
      const disk = disks.findLast((one) => one.moment <= moment)!;
      const now = await contentOf(join(left, basename(disk.path)), disk.format, cut % QEMU_EVERY === 0);
      guest.expectAt(moment, now, when);
      if (name.startsWith("backup") && moment >= ended) {
        const copy = await contentOf(join(left, "target"), targetFormat, true);
        assert.ok(copy.equals(content), `${when}: the backup is not what the disk was`);
      }
    }
  });
}

/** What the disk of a chain reads as, all of whose images have to be whole. */
async function contentOf(path: string, format: string, qemu: boolean): Promise<Buffer> {
  const image = await openImage(path, { format, readOnly: true });
  const content = Buffer.alloc(image.sizeBytes);
  await image.read(0, [content]);
  const names: string[] = [];
  for (let one = image; one instanceof Qcow2Image; one = one.backing!) {
    names.push(one.name);
    const { corruptions, messages } = await checkQcow2(one.metadata.store);
    assert.equal(corruptions, 0, `${one.name}: ${messages.join("; ")}`);
  }
  await image.close();
  if (qemu) for (const one of names) qemuCheck(one, true);
  return content;
}

/** What the disk must be after some moment: what was flushed, or what was begun to be written since. */
interface Mark {
  moment: number;
  flushed: Buffer;
  since: ReadonlyMap<number, ReadonlySet<number>>;
}

/** Does one thing after the other, and knows what of that is lasting. A byte stands for a sector. */
class FlushingGuest {
  readonly #drive: Drive;
  readonly #journal: FileJournal;
  readonly #random: Random;
  readonly #marks: Mark[];
  readonly #now: Buffer;

  constructor(drive: Drive, model: Buffer, journal: FileJournal, random: Random) {
    this.#drive = drive;
    this.#journal = journal;
    this.#random = random;
    this.#now = Buffer.from(Array.from({ length: model.length / SECTOR }, (_, at) => model[at * SECTOR]!));
    this.#marks = [{ moment: 0, flushed: Buffer.from(this.#now), since: new Map() }];
  }

  async lives(steps: number): Promise<void> {
    const random = this.#random;
    for (let step = 0; step < steps; step++) {
      await new Promise(setImmediate);
      if (random.chance(0.2)) {
        await this.#drive.flush();
        this.#marks.push({ moment: this.#journal.clock.now, flushed: Buffer.from(this.#now), since: new Map() });
        continue;
      }
      const first = random.below(this.#now.length);
      const count = Math.min(this.#now.length - first, 1 + random.below(200));
      const value = random.chance(0.2) ? 0 : 1 + random.below(255);
      const { flushed, since } = this.#marks.at(-1)!;
      const changed = new Map(since);
      for (let at = first; at < first + count; at++) changed.set(at, new Set([...(since.get(at) ?? []), value]));
      this.#marks.push({ moment: this.#journal.clock.now, flushed, since: changed });
      if (value === 0) await this.#drive.writeZeroes(first * SECTOR, count * SECTOR, random.chance(0.5));
      else await this.#drive.write(first * SECTOR, [Buffer.alloc(count * SECTOR, value)]);
      this.#now.fill(value, first, first + count);
    }
  }

  expectAt(moment: number, disk: Buffer, when: string): void {
    const { flushed, since } = this.#marks.findLast((mark) => mark.moment <= moment)!;
    for (let at = 0; at < flushed.length; at++) {
      const value = disk[at * SECTOR]!;
      const sector = disk.subarray(at * SECTOR, at * SECTOR + SECTOR);
      assert.ok(sector.equals(Buffer.alloc(SECTOR, value)), `${when}: sector ${at} is torn`);
      if (value !== flushed[at] && !since.get(at)?.has(value)) {
        assert.fail(`${when}: sector ${at} is ${value}, not ${flushed[at]} or one of ${[...(since.get(at) ?? [])]}`);
      }
    }
  }
}
