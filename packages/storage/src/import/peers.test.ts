/** Images that QEMU makes in each of the formats, read by us. */

import assert from "node:assert/strict";
import {
  closeSync,
  mkdtempDisposableSync,
  openSync,
  readFileSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { randomBytes, randomNumbers } from "../../testing/bytes.ts";
import { missing, run } from "../../testing/peers.ts";
import type { Image } from "../image.ts";
import { openImage } from "../open.ts";

const skip = missing("qemu-img", "qemu-io");
const MIB = 1 << 20;
const dir = mkdtempDisposableSync(join(tmpdir(), "lodge-import-"));
test.after(() => dir.remove());

/** A raw disk with random data, data that packs well, and holes. */
function source(name: string, sizeBytes: number, seed: number): string {
  const path = join(dir.path, name);
  writeFileSync(path, "");
  truncateSync(path, sizeBytes);
  const file = openSync(path, "r+");
  const random = randomNumbers(seed);
  for (let count = 0; count < 40; count++) {
    const length = 512 * (1 + random(300));
    const at = 512 * random((sizeBytes - length) / 512);
    writeSync(file, count % 3 === 0 ? Buffer.alloc(length, count) : randomBytes(length, count + seed), 0, length, at);
  }
  writeSync(file, randomBytes(512, seed), 0, 512, sizeBytes - 512);
  closeSync(file);
  return path;
}

async function content(image: Image): Promise<Buffer> {
  const whole = Buffer.alloc(image.sizeBytes);
  for (let at = 0; at < whole.length; at += MIB) {
    // In pieces, as guests have them.
    const step = whole.subarray(at, Math.min(at + MIB, whole.length));
    await image.read(at, [step.subarray(0, 1000), step.subarray(1000)]);
  }
  return whole;
}

function isZero(bytes: Buffer): boolean {
  return bytes.equals(Buffer.alloc(bytes.length));
}

/** What the image says is zero is zero, and its runs lead to its end. */
async function checkStatus(image: Image, whole: Buffer): Promise<void> {
  let zeros = 0;
  for (let at = 0; at < image.sizeBytes; ) {
    const { length, zero } = await image.status(at, image.sizeBytes - at);
    assert.ok(length > 0 && at + length <= image.sizeBytes);
    if (zero)
      assert.ok(
        whole.subarray(at, at + length).every((byte) => byte === 0),
        `${length} bytes at ${at}`,
      );
    if (zero) zeros += length;
    at += length;
  }
  assert.ok(zeros > 0, "the holes are known");
}

const subformats: [format: string, subformat: string, options?: string][] = [
  ["vmdk", "monolithicSparse"],
  ["vmdk", "monolithicSparse", "zeroed_grain=on"],
  ["vmdk", "monolithicFlat"],
  ["vmdk", "twoGbMaxExtentSparse"],
  ["vmdk", "twoGbMaxExtentFlat"],
  ["vmdk", "streamOptimized"],
  ["vpc", "dynamic"],
  ["vpc", "dynamic", "force_size=on"],
  ["vpc", "fixed"],
  ["vpc", "fixed", "force_size=on"],
  ["vhdx", "dynamic"],
  ["vhdx", "fixed"],
  ["vhdx", "dynamic", "block_size=1M"],
  ["vdi", "dynamic"],
  ["vdi", "static"],
];

for (const [index, [format, subformat, extra]] of subformats.entries()) {
  const title = [format, subformat, extra].filter((part) => part !== undefined).join(" ");
  test(`${title} is what qemu-img put in`, { skip }, async () => {
    const raw = source(`${index}.raw`, 24 * MIB + 512 * 8 * index, index + 1);
    const path = join(dir.path, `${index}.${format === "vpc" ? "vhd" : format}`);
    const kind = format === "vdi" ? `static=${subformat === "static" ? "on" : "off"}` : `subformat=${subformat}`;
    const options = extra === undefined ? kind : `${kind},${extra}`;
    await run("qemu-img", "convert", "-f", "raw", "-O", format, "-o", options, raw, path);
    const image = await openImage(path, { readOnly: true });
    try {
      assert.equal(image.format, format);
      const whole = await content(image);
      const expected = readFileSync(raw);
      // VHD's sizes are those of disk geometries, and qemu-img's are whole sectors of its own kinds.
      const said = JSON.parse(await run("qemu-img", "info", "--output=json", "-f", format, path));
      assert.equal(image.sizeBytes, said["virtual-size"]);
      assert.ok(whole.length >= expected.length);
      assert.ok(whole.subarray(0, expected.length).equals(expected));
      assert.ok(isZero(whole.subarray(expected.length)));
      await checkStatus(image, whole);
      await assert.rejects(image.write(0, []), { code: "STORAGE_IO", message: /only read here/ });
    } finally {
      await image.close();
    }
    await assert.rejects(openImage(path), { code: "STORAGE_OPEN", message: /read and not written/ });
  });
}

test("a disk of several files, each of two GiB", { skip }, async () => {
  const raw = source("large.raw", 5 * 1024 * MIB, 77);
  for (const subformat of ["twoGbMaxExtentSparse", "twoGbMaxExtentFlat"]) {
    const path = join(dir.path, `${subformat}.vmdk`);
    await run("qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", `subformat=${subformat}`, raw, path);
    const image = await openImage(path, { readOnly: true });
    assert.equal(image.sizeBytes, 5 * 1024 * MIB);
    const file = await open(raw);
    for (const at of [0, 2 ** 31 - 65536, 2 ** 31, 2 ** 32 - 100_000, 5 * 1024 * MIB - 200_000]) {
      const [ours, theirs] = [Buffer.alloc(200_000), Buffer.alloc(200_000)];
      await image.read(at, [ours]);
      await file.read(theirs, 0, theirs.length, at);
      assert.ok(ours.equals(theirs), `${subformat} at ${at}`);
    }
    await file.close();
    await image.close();
  }
});

test("a VHDX whose writer was killed: the log is replayed", { skip }, async () => {
  const path = join(dir.path, "killed.vhdx");
  await run("qemu-img", "create", "-f", "vhdx", "-o", "block_size=1M", path, "64M");
  // abort() after the second write: the log holds what the tables may not.
  const commands = ["write -P 1 0 1M", "write -P 2 5M 3M", "write -P 3 33M 64k", "abort"];
  await run("qemu-io", "-f", "vhdx", path, ...commands.flatMap((command) => ["-c", command])).catch(() => {});
  const image = await openImage(path, { readOnly: true });
  const whole = await content(image);
  assert.equal(whole[0], 1);
  assert.ok(whole.subarray(5 * MIB, 8 * MIB).every((byte) => byte === 2));
  assert.ok(whole.subarray(33 * MIB, 33 * MIB + 65536).every((byte) => byte === 3));
  await image.close();
  // QEMU, which replays it into the file, agrees.
  await run("qemu-img", "check", "-r", "all", "-f", "vhdx", path);
  const raw = join(dir.path, "killed.raw");
  await run("qemu-img", "convert", "-f", "vhdx", "-O", "raw", path, raw);
  assert.ok(readFileSync(raw).equals(whole));
});

test("a stream-optimized VMDK whose directory is named by its footer, as VMware writes it", { skip }, async () => {
  const raw = source("stream.raw", 8 * MIB, 5);
  const path = join(dir.path, "stream.vmdk");
  await run("qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", raw, path);
  // QEMU names it in the header: the header as it is becomes the footer, which stands before the end-of-stream marker.
  const image = readFileSync(path);
  const footer = Buffer.from(image.subarray(0, 512));
  image.fill(255, 56, 64);
  writeFileSync(path, Buffer.concat([image, footer, Buffer.alloc(512)]));
  const streamed = await openImage(path, { readOnly: true });
  assert.ok((await content(streamed)).equals(readFileSync(raw)));
  await streamed.close();
  writeFileSync(path, image);
  await assert.rejects(openImage(path, { readOnly: true }), { code: "STORAGE_OPEN", message: /not complete/ });
});
