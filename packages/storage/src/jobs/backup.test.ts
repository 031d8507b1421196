/** Backups of disks that are being written: what the disk was when the job began, and what was written since. */

import assert from "node:assert/strict";
import { mkdtempDisposableSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { BusyGuest } from "../../testing/busy-guest.ts";
import { HeldStore } from "../../testing/held-store.ts";
import { expectContent, makeChain, momentOf } from "../../testing/job-disk.ts";
import { MemoryStore } from "../../testing/memory-store.ts";
import { qemuMissing } from "../../testing/qemu.ts";
import { Random, runSeed } from "../../testing/random.ts";
import { Drive } from "../drive/drive.ts";
import { openImage } from "../open.ts";
import { createImage } from "../operations/create.ts";
import { RawImage } from "../raw/raw-image.ts";
import { startBackup } from "./backup.ts";

const SEED = runSeed();

for (const format of ["qcow2", "raw"]) {
  test(`a full backup, and incremental ones on it, to ${format}`, { skip: qemuMissing }, async () => {
    using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-backup-"));
    const path = (name: string) => join(folder.path, name);
    const random = new Random(SEED);
    const { model } = await makeChain(folder.path, ["base.raw", "top.qcow2"], random);
    const drive = await Drive.open(path("top.qcow2"), { format: "qcow2" });
    const moment = momentOf(drive);
    await drive.bitmaps.add("daily", { persistent: true, granularity: 4096 });
    const guest = new BusyGuest(drive, model, random);
    try {
      const sizeBytes = drive.sizeBytes;
      const target = async (name: string, backing?: string) => {
        const below = backing === undefined ? {} : { backing: { name: backing, format: "qcow2" } };
        await createImage(path(name), { format, sizeBytes, ...below });
        return openImage(path(name), { format });
      };
      await guest.after(10);
      const full = await startBackup(drive, await target("full"), { bitmap: "daily", speed: 20e6, targetIsZero: true });
      let then = moment.content;
      await guest.after(10);
      full.pause();
      await guest.after(15);
      full.resume();
      full.speed = 0;
      assert.equal(await full.ended, "completed");
      expectContent(folder.path, path("full"), format, then);
      let last = "full";
      for (const name of ["first", "second"]) {
        await guest.after(10);
        const next = format === "qcow2" ? await target(name, last) : await openImage(path("full"), { format });
        const job = await startBackup(drive, next, { sync: "incremental", bitmap: "daily" });
        then = moment.content;
        await assert.rejects(drive.bitmaps.clear("daily"), /a block job works with it/);
        assert.equal(await job.ended, "completed");
        const { doneBytes, totalBytes } = job.progress;
        assert.equal(doneBytes, totalBytes);
        last = format === "qcow2" ? name : "full";
        expectContent(folder.path, path(last), format, then);
      }
      // One that is cancelled forgets nothing.
      await guest.after(10);
      const aside = await target("aside");
      const gone = await startBackup(drive, aside, { sync: "incremental", bitmap: "daily", speed: 1 });
      await guest.after(10);
      gone.cancel();
      assert.equal(await gone.ended, "cancelled");
      const again = format === "qcow2" ? await target("third", last) : await openImage(path("full"), { format });
      const job = await startBackup(drive, again, { sync: "incremental", bitmap: "daily" });
      then = moment.content;
      assert.equal(await job.ended, "completed");
      expectContent(folder.path, path(format === "qcow2" ? "third" : "full"), format, then);
      await guest.after(5);
      await guest.stop();
      await drive.close();
      expectContent(folder.path, path("top.qcow2"), "qcow2", model);
    } catch (cause) {
      throw new Error(`with SEED=${SEED}: ${(cause as Error).message}`, { cause });
    } finally {
      await guest.stop();
      await drive.close();
    }
  });
}

test("a target that fails ends the backup, and the guest does not notice", async () => {
  const model = Buffer.alloc(1 << 20, 7);
  const drive = new Drive(new RawImage(MemoryStore.of(model)));
  const moment = momentOf(drive);
  await drive.bitmaps.add("since");
  const guest = new BusyGuest(drive, model, new Random(SEED));
  const store = new MemoryStore(1 << 20);
  store.failure = new Error("no space");
  const job = await startBackup(drive, new RawImage(store), { bitmap: "since" });
  assert.equal(await job.ended, "failed");
  assert.match(job.error!.message, /no space/);
  await guest.after(10);
  // Stopped instead, it goes on when there is space: but only if nothing had to be overwritten meanwhile.
  await guest.stop();
  store.failure = new Error("no space");
  const stopped = await startBackup(drive, new RawImage(store), { onError: "stop" });
  const then = moment.content;
  await new Promise<void>((resolve) => {
    stopped.watch((event) => event.event === "state" && event.state === "paused" && resolve());
  });
  store.failure = undefined;
  stopped.resume();
  assert.equal(await stopped.ended, "completed");
  assert.ok(store.bytes.equals(then));
  await assert.rejects(startBackup(drive, new RawImage(store), { sync: "incremental" }), /needs the name of a bitmap/);
  await assert.rejects(startBackup(drive, new RawImage(store), { bitmap: "none" }), /there is none of that name/);
  assert.equal(drive.watch, undefined);
  await drive.close();
});

test("a write across parts that are to be copied, of which the job takes the last while the first is copied", async () => {
  const part = 65536;
  const before = Buffer.alloc(8 * part, 1);
  const source = new HeldStore(MemoryStore.of(before));
  const drive = new Drive(source);
  await drive.bitmaps.add("some");
  for (const at of [0, 2, 4]) await drive.write(at * part, [new Uint8Array(512).fill(1)]);
  const target = new MemoryStore(8 * part);
  const job = await startBackup(drive, new RawImage(target), { sync: "incremental", bitmap: "some", speed: 1 });
  // The first part goes at once; the job waits for its turn to copy another.
  while (job.progress.doneBytes < part) await new Promise(setImmediate);
  source.hold();
  const asked = source.asked;
  const write = drive.write(2 * part, [Buffer.alloc(3 * part, 9)]);
  await asked;
  job.speed = 0;
  // What the job does now needs no answer of anybody.
  await new Promise(setImmediate);
  source.release();
  await write;
  assert.equal(await job.ended, "completed");
  for (const at of [0, 2, 4]) {
    assert.ok(target.bytes.subarray(at * part, (at + 1) * part).equals(before.subarray(0, part)), `part ${at}`);
  }
  await drive.close();
});
