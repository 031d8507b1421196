/** The host's block devices as targets: they hold something else before, they keep their size, and their names stay. */

import assert from "node:assert/strict";
import { mkdtempDisposableSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { expectContent, makeChain, readyOf } from "../../testing/job-disk.ts";
import { loopDevice, noLoopDevice } from "../../testing/loop-device.ts";
import { qemuCheck, qemuImg, qemuMissing } from "../../testing/qemu.ts";
import { Random, runSeed } from "../../testing/random.ts";
import { Drive } from "../drive/drive.ts";
import { openImage } from "../open.ts";
import { copyImage } from "../operations/copy.ts";
import { createImage } from "../operations/create.ts";
import { startBackup } from "./backup.ts";
import { startMirror } from "./mirror.ts";

const MIB = 1 << 20;
const skip = qemuMissing || noLoopDevice;
const folder = () => mkdtempDisposableSync(join(tmpdir(), "lodge-device-"));

for (const format of ["raw", "qcow2"] as const) {
  test(`a ${format} image on a device, which is copied, mirrored and backed up to`, { skip }, async () => {
    using dir = folder();
    const random = new Random(runSeed());
    const { paths, model } = await makeChain(dir.path, ["base.raw", "disk.qcow2"], random);
    // A raw disk is as long as its device; a qcow2 image needs some room.
    const sizeBytes = format === "raw" ? model.length : 12 * MIB;
    const target = async (path: string) => {
      const isZero = await createImage(path, { format, sizeBytes: model.length });
      assert.equal(isZero, format === "qcow2");
      return { image: await openImage(path, { format }), isZero };
    };

    using copy = loopDevice(dir.path, "copy", sizeBytes);
    const source = await openImage(paths[1]!, { format: "qcow2", readOnly: true });
    const copied = await target(copy.path);
    await copyImage(source, copied.image, { overZeros: !copied.isZero });
    await copied.image.close();
    await source.close();
    expectContent(dir.path, copy.path, format, model);

    using backup = loopDevice(dir.path, "backup", sizeBytes);
    using mirror = loopDevice(dir.path, "mirror", sizeBytes);
    const drive = await Drive.open(paths[1]!, { format: "qcow2" });
    try {
      const saved = await target(backup.path);
      const saving = await startBackup(drive, saved.image, { targetIsZero: saved.isZero });
      assert.equal(await saving.ended, "completed");
      expectContent(dir.path, backup.path, format, model);

      const level = await target(mirror.path);
      const job = await startMirror(drive, level.image, { mode: "write-blocking", targetIsZero: level.isZero });
      await readyOf(job);
      job.complete();
      assert.equal(await job.ended, "completed");
      assert.equal(drive.image.name, mirror.path);
      model.fill(7, 3 * MIB + 512, 4 * MIB);
      await drive.write(3 * MIB + 512, [model.subarray(3 * MIB + 512, 4 * MIB)]);
    } finally {
      await drive.close();
    }
    expectContent(dir.path, mirror.path, format, model);
  });
}

test("a new qcow2 image on a device is empty, and writes to it bring nothing back", { skip }, async () => {
  using dir = folder();
  using device = loopDevice(dir.path, "device", 4 * MIB);
  const model = Buffer.alloc(2 * MIB);
  assert.equal(await createImage(device.path, { format: "qcow2", sizeBytes: model.length }), true);
  qemuCheck(device.path);
  expectContent(dir.path, device.path, "qcow2", model);
  const image = await openImage(device.path, { format: "qcow2" });
  for (const at of [512, 70_000, MIB - 1024]) {
    const start = at - (at % 512);
    model.fill(9, start, start + 1024);
    await image.write(start, [model.subarray(start, start + 1024)]);
  }
  await image.close();
  expectContent(dir.path, device.path, "qcow2", model);
  // Places without content have what was there.
  const sizeBytes = model.length;
  assert.equal(await createImage(device.path, { format: "qcow2", sizeBytes, preallocation: "metadata" }), false);
  qemuCheck(device.path);
  assert.equal(await createImage(device.path, { format: "qcow2", sizeBytes, preallocation: "full" }), true);
  expectContent(dir.path, device.path, "qcow2", Buffer.alloc(sizeBytes));
});

test("an image that has no place on a device fails, and the device stays", { skip }, async () => {
  using dir = folder();
  using device = loopDevice(dir.path, "device", MIB);
  for (const format of ["raw", "qcow2"]) {
    const options = { format, sizeBytes: 2 * MIB, preallocation: "full" } as const;
    await assert.rejects(createImage(device.path, options), { code: "STORAGE_IO" });
    assert.ok(statSync(device.path).isBlockDevice());
  }
  qemuImg("info", "-f", "raw", device.path);
});
