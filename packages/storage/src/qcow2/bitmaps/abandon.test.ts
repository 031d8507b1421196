/** Bitmaps of QEMU's under a writer who does not keep them. */

import assert from "node:assert/strict";
import { copyFileSync, mkdtempDisposableSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { qemuCheck, qemuImg, qemuIo, qemuMissing } from "../../../testing/qemu.ts";
import { openImage } from "../../open.ts";
import type { Qcow2Image } from "../qcow2-image.ts";
import { applySnapshot, createSnapshot } from "../snapshots.ts";

const flags = (path: string) =>
  Object.fromEntries(
    JSON.parse(qemuImg("info", "--output=json", path))["format-specific"].data.bitmaps.map(
      (bitmap: { name: string; flags: string[] }) => [bitmap.name, bitmap.flags],
    ),
  );

test("bitmaps that should follow what is written are in use after a write, others are not", {
  skip: qemuMissing,
}, async () => {
  using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-bitmaps-"));
  const made = join(folder.path, "made.qcow2");
  qemuImg("create", "-q", "-f", "qcow2", made, "8M");
  qemuImg("bitmap", "--add", made, "follows");
  qemuImg("bitmap", "--add", "--disable", made, "stays");
  qemuIo(made, "write 1M 1M");
  const untouched = { follows: ["auto"], stays: [] };
  const abandoned = { follows: ["in-use", "auto"], stays: [] };
  const all = { follows: ["in-use", "auto"], stays: ["in-use"] };
  const sector = new Uint8Array(512).fill(1);
  const changes: [string, (image: Qcow2Image) => Promise<void>, object][] = [
    ["nothing", async () => {}, untouched],
    ["a write", (image) => image.write(0, [sector]), abandoned],
    [
      "writes at once",
      async (image) => void (await Promise.all([image.write(0, [sector]), image.write(512, [sector])])),
      abandoned,
    ],
    ["a discard", (image) => image.discard(1 << 20, 1 << 20), abandoned],
    ["zeros", (image) => image.writeZeroes(0, 4096, true), abandoned],
    [
      "a snapshot that is gone back to",
      async (image) => {
        await createSnapshot(image, "before");
        await applySnapshot(image, "before");
      },
      all,
    ],
    ["another size", (image) => image.resize(16 << 20), all],
  ];
  for (const [what, change, expected] of changes) {
    const path = join(folder.path, "changed.qcow2");
    copyFileSync(made, path);
    const image = await openImage(path, { format: "qcow2" });
    await change(image as Qcow2Image);
    await image.close();
    assert.deepEqual(flags(path), expected, what);
    qemuCheck(path);
  }
});
