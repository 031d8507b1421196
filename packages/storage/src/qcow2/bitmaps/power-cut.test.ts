/**
 * An image that keeps bitmaps is cut off at every kind of moment, also while it stores them: a bitmap that counts afterwards
 * has a bit for all that was written since it began, and one that was stored when nobody writes the image is there.
 */

import assert from "node:assert/strict";
import { mkdtempDisposableSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { JournalStore } from "../../../testing/journal-store.ts";
import { qemuCheck, qemuImg, qemuMissing } from "../../../testing/qemu.ts";
import { Random, runSeed } from "../../../testing/random.ts";
import { DiskBitmaps } from "../../bitmaps/disk-bitmaps.ts";
import { checkQcow2 } from "../check/check.ts";
import { type CreateQcow2Options, createQcow2 } from "../create.ts";
import { openQcow2 } from "../open.ts";
import type { Qcow2Image } from "../qcow2-image.ts";
import { createSnapshot, deleteSnapshot } from "../snapshots.ts";

const SEED = runSeed();
const LIVES = 2;
const SESSIONS = 6;
const STEPS = 10;
const CUTS = 120;
const PEER_EVERY = 30;
const SECTOR = 512;

const SHAPES: Record<string, Partial<CreateQcow2Options>> = {
  "512 B clusters": { clusterSize: 512 },
  "4 KiB clusters, 1-bit refcounts": { clusterSize: 4096, refcountBits: 1 },
  "lazy refcounts": { clusterSize: 1024, lazyRefcounts: true },
  "extended L2 entries": { clusterSize: 16384, extendedL2: true },
};

for (const [name, shape] of Object.entries(SHAPES)) {
  test(`power cuts of an image with bitmaps: ${name}`, async () => {
    for (let life = 0; life < LIVES; life++) {
      const random = new Random(SEED + life);
      try {
        await live(random, shape);
      } catch (cause) {
        throw new Error(`with SEED=${random.seed}: ${(cause as Error).message}`, { cause });
      }
    }
  });
}

/** What the disk held when each bitmap began, by name; what has been overwritten meanwhile differs. */
type Beginnings = ReadonlyMap<string, Uint8Array>;

/** An image opened, worked on and closed, by steps of the journal. */
interface Session {
  start: number;
  closing: number;
  /** Of the bitmaps that the image kept before, and keeps behind it. */
  before: Beginnings;
  after: Beginnings;
}

async function live(random: Random, shape: Partial<CreateQcow2Options>): Promise<void> {
  const store = new JournalStore();
  const sectors = 128 + random.below(900);
  await createQcow2(store, { sizeBytes: sectors * SECTOR, ...shape });
  const sessions: Session[] = [];
  let kept: Beginnings = new Map();
  for (let count = 0; count < SESSIONS; count++) {
    const session = { start: store.journal.length, before: kept };
    const image = await openQcow2(store, { l2Bytes: 0, refcountBytes: 0 });
    const after = await work(image, new Map(kept), random);
    const closing = store.journal.length;
    await image.close();
    sessions.push({ ...session, closing, after });
    kept = after;
  }
  const end = store.journal.length;
  const born = sessions[0]!.start;
  for (let cut = 0; cut < CUTS; cut++) {
    // Every other one while bitmaps are stored, which is few steps of many.
    const session = random.pick(sessions);
    const next = sessions[sessions.indexOf(session) + 1]?.start ?? end;
    const inClosing = session.closing + random.below(next - session.closing + 1);
    const at = cut % 2 === 0 ? inClosing : born + random.below(end - born + 1);
    const left = random.chance(0.3) ? store.killedAfter(at) : store.cutAfter(at, random);
    const when = `after ${at} of ${end} steps`;
    await expectKept(left, sessions.findLast(({ start }) => start <= at)!, at, when);
    await expectWhole(left, cut % PEER_EVERY === 0, when);
  }
}

/** Some changes to an image and to its bitmaps. */
async function work(image: Qcow2Image, bitmaps: Map<string, Uint8Array>, random: Random): Promise<Beginnings> {
  const disk = new DiskBitmaps(() => image);
  const sectors = image.sizeBytes / SECTOR;
  for (let step = random.below(STEPS); step < STEPS; step++) {
    const lot = random.below(20);
    const some = random.pick([...bitmaps.keys(), ""]);
    const first = random.below(sectors);
    const count = 1 + random.below(Math.min(sectors - first, random.chance(0.2) ? sectors : 40));
    if (lot < 9) {
      await image.write(first * SECTOR, [new Uint8Array(count * SECTOR).fill(1 + random.below(255))]);
    } else if (lot < 11) {
      await image.writeZeroes(first * SECTOR, count * SECTOR, random.chance(0.5));
    } else if (lot < 12) {
      await image.discard(first * SECTOR, count * SECTOR);
    } else if (lot < 15) {
      const name = `bitmap ${random.below(1 << 30)}`;
      await disk.add(name, { persistent: true, granularity: random.pick([512, 4096]) });
      bitmaps.set(name, await contentOf(image));
    } else if (lot < 16) {
      // With 1-bit refcounts there is no snapshot.
      await createSnapshot(image, "kept").then(
        ({ id }) => deleteSnapshot(image, id),
        () => {},
      );
    } else if (lot < 17 || some === "") {
      await image.flush();
    } else if (lot < 18) {
      await disk.clear(some);
      bitmaps.set(some, await contentOf(image));
    } else if (bitmaps.size > 2) {
      await disk.remove(some);
      bitmaps.delete(some);
    }
  }
  return bitmaps;
}

async function contentOf(image: Qcow2Image): Promise<Uint8Array> {
  const bytes = new Uint8Array(image.sizeBytes);
  await image.read(0, [bytes]);
  return bytes;
}

/** The bitmaps of an image that was cut off are those from before the session, as long as it has changed nothing, or from its end. */
async function expectKept(left: JournalStore, session: Session, at: number, when: string): Promise<void> {
  const image = await openQcow2(JournalStore.of(left.content()));
  const content = await contentOf(image);
  await image.bitmaps.load();
  const expected = at > session.closing ? session.after : session.before;
  const names = image.bitmaps.list.map(({ name }) => name);
  if (at === session.start) assert.deepEqual(names.sort(), [...expected.keys()].sort(), when);
  for (const { name, bits } of image.bitmaps.list) {
    const beginning =
      expected.get(name) ?? assert.fail(`${when}: ${name} counts, which was not stored yet, or removed`);
    for (let offset = 0; offset < content.length; offset += SECTOR) {
      if (content[offset] === beginning[offset]) continue;
      assert.ok(bits.any(offset, SECTOR), `${when}: ${name} says that ${offset} was not written`);
    }
  }
}

/** Nothing but space is lost, and whoever goes on with the image leaves one in order. */
async function expectWhole(left: JournalStore, peer: boolean, when: string): Promise<void> {
  // Counts that were put off are counted again here.
  const image = await openQcow2(left);
  if (peer && qemuMissing === false) {
    using dir = mkdtempDisposableSync(join(tmpdir(), "lodge-cut-"));
    const path = join(dir.path, "image");
    writeFileSync(path, left.content());
    qemuCheck(path, true);
    qemuImg("info", path);
  }
  const found = await checkQcow2(left);
  assert.equal(found.corruptions, 0, `${when}: ${found.messages.join("; ")}`);
  await image.write(0, [new Uint8Array(SECTOR).fill(1)]);
  for (const { name } of image.bitmaps.abandoned) await image.bitmaps.removeAbandoned(name);
  await image.close();
  const { corruptions, messages } = await checkQcow2(left, "all");
  assert.equal(corruptions, 0, `${when}, reopened: ${messages.join("; ")}`);
  const again = await checkQcow2(left);
  assert.deepEqual([again.corruptions, again.leaks], [0, 0], `${when}, repaired: ${again.messages.join("; ")}`);
}
