/** Mirrors of disks that are being written: the target is what the disk is when the job ends, and QEMU's tools agree. */

import assert from "node:assert/strict";
import { mkdtempDisposableSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { BusyGuest } from "../../testing/busy-guest.ts";
import { expectContent, momentOf, readyOf } from "../../testing/job-disk.ts";
import { MemoryStore } from "../../testing/memory-store.ts";
import { missing, qemuNbd } from "../../testing/peers.ts";
import { qemuImg, qemuMissing } from "../../testing/qemu.ts";
import { Random, runSeed } from "../../testing/random.ts";
import { Drive } from "../drive/drive.ts";
import { openImage } from "../open.ts";
import { createImage } from "../operations/create.ts";
import { RawImage } from "../raw/raw-image.ts";
import { type MirrorOptions, startMirror } from "./mirror.ts";

const MIB = 1 << 20;
const SIZE = 8 * MIB + 1536;
const SEED = runSeed();

/** A disk above a backing image, with what it is. */
async function disk(dir: string, random: Random): Promise<{ drive: Drive; model: Buffer<ArrayBuffer> }> {
  const model = Buffer.alloc(SIZE);
  for (let at = 0; at < 4 * MIB; at += 512) model.fill(random.below(256), at, at + 512);
  writeFileSync(join(dir, "base.raw"), model);
  const path = join(dir, "top.qcow2");
  await createImage(path, { format: "qcow2", backing: { name: "base.raw", format: "raw" }, clusterSize: 16384 });
  return { drive: await Drive.open(path, { format: "qcow2" }), model };
}

const MODES: [string, MirrorOptions, "qcow2" | "raw"][] = [
  ["in the background, to qcow2", { mode: "background", targetIsZero: true }, "qcow2"],
  ["in the background, to raw", { mode: "background", granularity: 4096 }, "raw"],
  ["write-blocking, to qcow2", { mode: "write-blocking" }, "qcow2"],
  ["write-blocking, to raw", { mode: "write-blocking", targetIsZero: true, granularity: 512 * 1024 }, "raw"],
];

for (const [name, options, format] of MODES) {
  for (const end of ["complete", "leave"] as const) {
    test(`${name}: ${end}`, { skip: qemuMissing }, async () => {
      using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-mirror-"));
      const random = new Random(SEED);
      const { drive, model } = await disk(folder.path, random);
      const target = join(folder.path, "target");
      await createImage(target, { format, sizeBytes: SIZE - (SIZE % 512) });
      const guest = new BusyGuest(drive, model, random);
      try {
        await guest.after(10);
        const image = await openImage(target, { format });
        const moment = momentOf(drive);
        const job = await startMirror(drive, image, { ...options, speed: 64 * MIB });
        await assert.rejects(drive.resize(2 * SIZE), /its size stays while it is in use by the block job mirror/);
        job.pause();
        const { doneBytes } = job.progress;
        await guest.after(5);
        assert.equal(job.state, "paused");
        assert.ok(job.progress.doneBytes - doneBytes <= 8 * MIB);
        job.resume();
        job.speed = 0;
        await readyOf(job);
        await guest.after(20);
        if (end === "complete") job.complete();
        else job.cancel();
        assert.equal(await job.ended, "completed");
        assert.equal(job.state, "concluded");
        assert.equal(drive.image.name, end === "complete" ? target : join(folder.path, "top.qcow2"));
        await guest.after(20);
        await guest.stop();
        await drive.close();
        expectContent(folder.path, drive.image.name, drive.image.format, model);
        if (end === "leave") expectContent(folder.path, target, format, moment.content);
      } catch (cause) {
        throw new Error(`with SEED=${SEED}: ${(cause as Error).message}`, { cause });
      } finally {
        await guest.stop();
        await drive.close();
      }
    });
  }
}

test("to NBD, by QEMU's server", { skip: qemuMissing || missing("qemu-nbd") }, async () => {
  using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-mirror-"));
  const random = new Random(SEED);
  const { drive, model } = await disk(folder.path, random);
  const served = join(folder.path, "served.qcow2");
  qemuImg("create", "-q", "-f", "qcow2", served, String(model.length));
  const socket = join(folder.path, "nbd");
  {
    await using server = await qemuNbd(socket, "--format=qcow2", served);
    const guest = new BusyGuest(drive, model, random);
    const target = await openImage(`nbd+unix:///?socket=${socket}`, { format: "raw" });
    const job = await startMirror(drive, target, { mode: "write-blocking" });
    await readyOf(job);
    job.complete();
    assert.equal(await job.ended, "completed");
    await guest.after(20);
    await guest.stop();
    await drive.close();
    server.child.kill("SIGTERM");
    await new Promise((resolve) => server.child.once("exit", resolve));
  }
  expectContent(folder.path, served, "qcow2", model);
});

test("only the top, onto an image that has the same below it", { skip: qemuMissing }, async () => {
  using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-mirror-"));
  const random = new Random(SEED);
  const { drive, model } = await disk(folder.path, random);
  const target = join(folder.path, "target.qcow2");
  await createImage(target, { format: "qcow2", backing: { name: "base.raw", format: "raw" } });
  const guest = new BusyGuest(drive, model, random);
  await guest.after(10);
  const job = await startMirror(drive, await openImage(target, { format: "qcow2" }), { sync: "top" });
  await readyOf(job);
  job.complete();
  assert.equal(await job.ended, "completed");
  await guest.stop();
  await drive.close();
  expectContent(folder.path, target, "qcow2", model);
  assert.ok(job.progress.totalBytes < model.length * 20);
});

test("a target that fails ends the job or stops it, and never harms the guest", async () => {
  for (const mode of ["background", "write-blocking"] as const) {
    for (const onError of ["report", "stop"] as const) {
      const model = Buffer.alloc(MIB, 7);
      const drive = new Drive(new RawImage(MemoryStore.of(model)));
      const store = new MemoryStore(MIB, { name: "target" });
      const guest = new BusyGuest(drive, model, new Random(SEED));
      const job = await startMirror(drive, new RawImage(store), { mode, onError });
      const errors: string[] = [];
      const stopped = new Promise<void>((resolve) => {
        job.watch((event) => {
          if (event.event === "error") errors.push(`${event.operation} ${event.action}`);
          if (event.event === "state" && (event.state === "standby" || event.state === "paused")) resolve();
        });
      });
      await readyOf(job);
      await guest.after(3);
      store.failure = Object.assign(new Error("no space"), { code: "ENOSPC" });
      if (onError === "report") {
        assert.equal(await job.ended, "failed");
        assert.match(job.error!.message, /no space/);
      } else {
        await stopped;
        assert.match(job.error!.message, /no space/);
        await guest.after(20);
        store.failure = undefined;
        job.resume();
        job.complete();
        assert.equal(await job.ended, "completed");
        assert.equal(drive.image.name, "target");
      }
      assert.equal(errors[0], `write ${onError}`);
      await guest.after(10);
      await guest.stop();
      const now = Buffer.alloc(MIB);
      await drive.read(0, [now]);
      assert.ok(now.equals(model), `${mode} ${onError}`);
      if (onError === "stop") assert.ok(store.bytes.equals(model));
      await drive.close();
    }
  }
});

test("the target is flushed before its disk stands still, which then takes little time", async () => {
  const drive = new Drive(new RawImage(MemoryStore.of(Buffer.alloc(MIB, 7))));
  const store = new MemoryStore(MIB);
  const job = await startMirror(drive, new RawImage(store));
  await readyOf(job);
  const drained = drive.drained.bind(drive);
  const flushed: number[] = [];
  drive.drained = (work) => {
    flushed.push(store.flushes);
    return drained(work);
  };
  job.complete();
  assert.equal(await job.ended, "completed");
  assert.deepEqual([flushed, store.flushes], [[1], 2]);
  await drive.close();
});

test("what cannot be is refused, and a job that is cancelled lets go of the drive", async () => {
  const drive = new Drive(new RawImage(new MemoryStore(MIB)));
  await assert.rejects(startMirror(drive, new RawImage(new MemoryStore(2 * MIB))), /are of one size/);
  const job = await startMirror(drive, new RawImage(new MemoryStore(MIB)), { speed: 1 });
  await assert.rejects(startMirror(drive, new RawImage(new MemoryStore(MIB))), /no mirror can begin: it is in use/);
  assert.throws(() => job.complete(), /the block job mirror cannot be completed: it is running/);
  assert.throws(() => {
    job.speed = -1;
  }, /a speed of -1/);
  job.cancel();
  assert.equal(await job.ended, "cancelled");
  assert.throws(() => job.pause(), /it is concluded/);
  const again = await startMirror(drive, new RawImage(new MemoryStore(MIB)));
  await readyOf(again);
  again.pause();
  assert.equal(again.state, "standby");
  again.resume();
  again.cancel({ force: true });
  assert.equal(await again.ended, "cancelled");
  await drive.close();
});
