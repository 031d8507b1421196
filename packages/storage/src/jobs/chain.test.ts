/** Stream, commit and external snapshots under a guest that writes: its data stays, and the chain is what it is to be. */

import assert from "node:assert/strict";
import { mkdtempDisposableSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { BusyGuest } from "../../testing/busy-guest.ts";
import { chainNames, expectContent, makeChain, readyOf } from "../../testing/job-disk.ts";
import { qemuCheck, qemuMissing } from "../../testing/qemu.ts";
import { Random, runSeed } from "../../testing/random.ts";
import { chainOf } from "../chain.ts";
import { Drive } from "../drive/drive.ts";
import { startCommit } from "./commit.ts";
import type { BlockJob } from "./job.ts";
import { takeSnapshot } from "./snapshot.ts";
import { startStream } from "./stream.ts";

const SEED = runSeed();
const NAMES = ["base.raw", "one.qcow2", "two.qcow2", "top.qcow2"] as const;

interface Case {
  start: (drive: Drive, path: (name: string) => string) => Promise<BlockJob>;
  /** It becomes ready, and is told this. */
  asked?: "complete" | "cancel";
  /** The chain afterwards, from the top. */
  left: readonly string[];
}

const CASES: Record<string, Case> = {
  "stream everything": { start: (drive) => startStream(drive), left: ["top.qcow2"] },
  "stream down to a base": {
    start: (drive, path) => startStream(drive, { base: path("one.qcow2") }),
    left: ["top.qcow2", "one.qcow2", "base.raw"],
  },
  "stream from the next alone": {
    start: (drive, path) => startStream(drive, { base: path("base.raw"), speed: 50e6 }),
    left: ["top.qcow2", "base.raw"],
  },
  "commit the disk's first image": {
    start: (drive) => startCommit(drive),
    asked: "complete",
    left: ["base.raw"],
  },
  "commit the disk's first image into the next": {
    start: (drive, path) => startCommit(drive, { base: path("two.qcow2") }),
    asked: "complete",
    left: ["two.qcow2", "one.qcow2", "base.raw"],
  },
  "commit the disk's first image, and stay": {
    start: (drive) => startCommit(drive),
    asked: "cancel",
    left: NAMES.toReversed(),
  },
  "commit images between": {
    start: (drive, path) => startCommit(drive, { top: path("two.qcow2") }),
    left: ["top.qcow2", "base.raw"],
  },
  "commit one image between, of which nobody is written": {
    start: (drive, path) => startCommit(drive, { top: path("one.qcow2"), base: path("base.raw") }),
    left: ["top.qcow2", "two.qcow2", "base.raw"],
  },
};

for (const [name, { start, asked, left }] of Object.entries(CASES)) {
  for (const cancelled of [false, true]) {
    test(`${name}${cancelled ? ", cancelled on its way" : ""}`, { skip: qemuMissing }, async () => {
      using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-chain-"));
      const path = (one: string) => join(folder.path, one);
      const random = new Random(SEED);
      const { model } = await makeChain(folder.path, NAMES, random);
      const drive = await Drive.open(path("top.qcow2"), { format: "qcow2" });
      const guest = new BusyGuest(drive, model, random);
      try {
        await guest.after(5);
        const job = await start(drive, path);
        await guest.after(1 + random.below(8));
        if (job.state === "running") {
          job.pause();
          await guest.after(5);
          assert.equal(job.state, "paused");
          job.resume();
        }
        if (cancelled && job.state !== "concluded" && job.state !== "pending") {
          job.cancel({ force: true });
          const outcome = await job.ended;
          assert.equal(outcome, "cancelled");
          assert.equal(drive.watch, undefined);
          await guest.after(10);
          await guest.stop();
          await drive.close();
          assert.deepEqual(chainNames(path("top.qcow2")), NAMES.toReversed().map(path));
          for (const image of NAMES.slice(1)) qemuCheck(path(image));
          expectContent(folder.path, path("top.qcow2"), "qcow2", model);
          return;
        }
        if (asked !== undefined) {
          await readyOf(job);
          await guest.after(10);
          job[asked]();
        }
        assert.equal(await job.ended, "completed", job.error?.stack);
        assert.deepEqual(
          chainOf(drive.image).map((image) => image.name),
          left.map(path),
        );
        await guest.after(20);
        await guest.stop();
        await drive.close();
        assert.deepEqual(chainNames(path(left[0]!)), left.map(path));
        for (const image of left) if (image !== "base.raw") qemuCheck(path(image));
        expectContent(folder.path, path(left[0]!), left[0] === "base.raw" ? "raw" : "qcow2", model);
      } catch (cause) {
        throw new Error(`with SEED=${SEED}: ${(cause as Error).message}`, { cause });
      } finally {
        await guest.stop();
        await drive.close();
      }
    });
  }
}

test("an external snapshot under a guest, and its merge", { skip: qemuMissing }, async () => {
  using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-chain-"));
  const path = (one: string) => join(folder.path, one);
  const random = new Random(SEED);
  const { model } = await makeChain(folder.path, ["base.raw", "top.qcow2"], random);
  const drive = await Drive.open(path("top.qcow2"), { format: "qcow2" });
  const guest = new BusyGuest(drive, model, random);
  await guest.after(10);
  await takeSnapshot(drive, path("new.qcow2"));
  await guest.after(30);
  assert.deepEqual(
    chainOf(drive.image).map((image) => image.name),
    ["new.qcow2", "top.qcow2", "base.raw"].map(path),
  );
  // What cannot be made leaves the drive as it is.
  await assert.rejects(takeSnapshot(drive, path("nowhere/new.qcow2")), /nowhere/);
  await assert.rejects(takeSnapshot(drive, path("absent.qcow2"), { existing: true }), /absent/);
  await assert.rejects(takeSnapshot(drive, path("new.qcow2")), /its own backing file/);
  await guest.after(10);
  const job = await startCommit(drive, { base: path("top.qcow2") });
  await assert.rejects(
    takeSnapshot(drive, path("more.qcow2")),
    /no snapshot can begin: it is in use by the block job commit/,
  );
  await readyOf(job);
  job.complete();
  assert.equal(await job.ended, "completed");
  await guest.after(10);
  await guest.stop();
  await drive.close();
  expectContent(folder.path, path("top.qcow2"), "qcow2", model);
});

test("what a chain cannot do is refused, and nothing is changed", async () => {
  using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-chain-"));
  const path = (one: string) => join(folder.path, one);
  await makeChain(folder.path, ["base.raw", "one.qcow2", "top.qcow2"], new Random(SEED));
  await using closing = {
    drive: await Drive.open(path("top.qcow2"), { format: "qcow2" }),
    async [Symbol.asyncDispose]() {
      await this.drive.close();
    },
  };
  const { drive } = closing;
  await assert.rejects(
    startStream(drive, { base: "other" }),
    /other is no image of the disk: these are .*top\.qcow2, /,
  );
  await assert.rejects(startStream(drive, { base: path("top.qcow2") }), /cannot stand on itself/);
  await assert.rejects(startCommit(drive, { top: path("base.raw") }), /does not stand on/);
  await assert.rejects(startCommit(drive, { top: path("one.qcow2"), base: path("one.qcow2") }), /does not stand on/);
  // Somebody else reads the base: it cannot be written.
  await using reader = {
    drive: await Drive.open(path("base.raw"), { format: "raw", readOnly: true }),
    async [Symbol.asyncDispose]() {
      await this.drive.close();
    },
  };
  assert.ok(reader.drive.readOnly);
  await assert.rejects(startCommit(drive), /base\.raw/);
  assert.equal(drive.watch, undefined);
  await drive.read(0, [new Uint8Array(512)]);
});
