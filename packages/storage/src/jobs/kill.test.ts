/** A process is killed at some moment of a job: its disk is what it was, and the images are whole. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempDisposableSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as wait } from "node:timers/promises";
import { expectContent, makeChain } from "../../testing/job-disk.ts";
import { qemuCheck, qemuMissing } from "../../testing/qemu.ts";
import { Random, runSeed } from "../../testing/random.ts";
import { createImage } from "../operations/create.ts";

const SEED = runSeed();
const PROCESS = join(import.meta.dirname, "../../testing/job-process.ts");
const NAMES = ["base.raw", "one.qcow2", "two.qcow2", "top.qcow2"];

for (const kind of ["mirror", "backup", "stream", "commit", "commit-between"]) {
  test(kind, { skip: qemuMissing }, async () => {
    const random = new Random(SEED);
    for (let round = 0; round < 3; round++) {
      using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-kill-"));
      const { paths, model } = await makeChain(folder.path, NAMES, random);
      const target = join(folder.path, "target.qcow2");
      await createImage(target, { format: "qcow2", sizeBytes: model.length });
      const disk = paths.at(-1)!;
      const child = spawn(process.execPath, [PROCESS, kind, disk, target], { stdio: ["ignore", "pipe", "inherit"] });
      try {
        await Promise.race([once(child.stdout, "data"), once(child, "exit")]);
        // Any moment of the job will do: they take some tens of milliseconds.
        await wait(random.below(80));
      } finally {
        const exited = child.exitCode === null ? once(child, "exit") : undefined;
        child.kill("SIGKILL");
        await exited;
      }
      const what = `${kind}, round ${round}, SEED=${SEED}`;
      for (const path of paths.slice(1)) assert.doesNotThrow(() => qemuCheck(path, true), what);
      assert.doesNotThrow(() => expectContent(folder.path, disk, "qcow2", model, true), what);
      assert.ok(existsSync(target));
    }
  });
}
