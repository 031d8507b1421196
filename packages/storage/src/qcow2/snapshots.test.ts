/** Snapshots of images that say what cannot be; what they do otherwise is model.test.ts's. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { JournalStore } from "../../testing/journal-store.ts";
import { createQcow2 } from "./create.ts";
import { openQcow2 } from "./open.ts";
import { applySnapshot, createSnapshot, deleteSnapshot, listSnapshots } from "./snapshots.ts";

test("a snapshot of a disk that no table could describe is refused, and can be deleted", async () => {
  const store = JournalStore.of(new Uint8Array());
  await createQcow2(store, { sizeBytes: 1 << 20, clusterSize: 512 });
  const made = await openQcow2(store);
  await made.write(0, [new Uint8Array(512).fill(7)]);
  await createSnapshot(made, "one");
  await made.write(0, [new Uint8Array(512).fill(8)]);
  await made.close();
  // The disk's size stands behind 8 bytes of the extra data, which begins at byte 40 ("Snapshots").
  const { header } = await openQcow2(store);
  const size = Buffer.alloc(8);
  size.writeBigUInt64BE(2n ** 50n);
  await store.write(header.snapshotsOffset + 48, [size]);

  const image = await openQcow2(store);
  const [snapshot] = await listSnapshots(image);
  assert.equal(snapshot?.sizeBytes, 2 ** 50);
  await assert.rejects(applySnapshot(image, "one"), {
    code: "STORAGE_CORRUPT",
    message: /snapshot 1 .* more than can be/,
  });
  const bytes = new Uint8Array(512);
  await image.read(0, [bytes]);
  assert.equal(bytes[0], 8);
  await deleteSnapshot(image, "one");
  assert.deepEqual(await listSnapshots(image), []);
  await image.close();
});
