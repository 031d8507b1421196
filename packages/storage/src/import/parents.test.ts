/** Disks that hold the changes to others, of every format. */

import assert from "node:assert/strict";
import { mkdirSync, mkdtempDisposableSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { DISK_BYTES, makeDifferencing, rewriteVhdx } from "../../testing/differencing.ts";
import { missing, run } from "../../testing/peers.ts";
import { openImage } from "../open.ts";
import { extentsOf } from "../operations/extents.ts";
import { equalBits, fileName } from "./parents.ts";

const skip = missing("qemu-img", "qemu-io");

/** After another write of the parent its children are told apart. */
async function writeParent(parent: string, format: string): Promise<void> {
  if (format === "vmdk") return void (await run("qemu-io", "-f", "vmdk", parent, "-c", "write -P 9 0 512"));
  const bytes = readFileSync(parent);
  if (format === "vhdx") rewriteVhdx(bytes);
  else if (format === "vdi") bytes[0x198]! ^= 1;
  else {
    // VHD's id is that of the file; its copy at the beginning is looked at when the footer is damaged.
    for (const footer of [bytes.subarray(0, 512), bytes.subarray(bytes.length - 512)]) {
      footer[68]! ^= 1;
      footer.writeUInt32BE(0, 64);
      footer.writeUInt32BE(~footer.reduce((total, byte) => total + byte, 0) >>> 0, 64);
    }
  }
  writeFileSync(parent, bytes);
}

for (const format of ["vmdk", "vpc", "vhdx", "vdi"]) {
  test(`${format}: what the child does not hold is the parent's, and of that parent only`, { skip }, async () => {
    using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-parents-"));
    const { child, parent, content } = await makeDifferencing(folder.path, format);
    const image = await openImage(child, { readOnly: true });
    assert.equal(image.format, format);
    assert.ok(image.sizeBytes >= DISK_BYTES);
    const whole = Buffer.alloc(DISK_BYTES);
    // Steps that end in the middle of sectors, as some guests' do.
    for (let at = 0; at < DISK_BYTES; at += 99_999) await image.read(at, [whole.subarray(at, at + 99_999)]);
    assert.equal(whole.compare(content), 0, `differs from ${whole.findIndex((byte, at) => byte !== content[at])} on`);
    const depths = new Set<number>();
    for await (const { start, length, zero, depth } of extentsOf(image, DISK_BYTES)) {
      depths.add(depth);
      if (zero)
        assert.ok(
          content.subarray(start, start + length).every((byte) => byte === 0),
          `zeros at ${start}`,
        );
    }
    assert.deepEqual([...depths].toSorted(), [0, 1]);
    await image.close();

    const before = readFileSync(parent);
    await writeParent(parent, format);
    await assert.rejects(openImage(child, { readOnly: true }), {
      code: "STORAGE_OPEN",
      message: /parent\.\w+ is not what it holds the changes to, or was written since: its identity is /,
    });
    writeFileSync(parent, before);
    const again = await openImage(child, { readOnly: true });
    await again.close();

    mkdirSync(join(folder.path, "elsewhere"));
    renameSync(parent, join(folder.path, "elsewhere", "parent"));
    await assert.rejects(openImage(child, { readOnly: true }), {
      code: "STORAGE_OPEN",
      message: /holds the changes to another image, .* which has to be in the same folder/,
    });
  });
}

test("a chain of three VMDK reads as QEMU reads it", { skip }, async () => {
  using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-parents-"));
  const { child } = await makeDifferencing(folder.path, "vmdk");
  const top = join(folder.path, "top.vmdk");
  await run("qemu-img", "create", "-f", "vmdk", "-b", child, "-F", "vmdk", top);
  await run("qemu-io", "-f", "vmdk", top, "-c", "write -P 7 4M 1000k");
  const raw = join(folder.path, "raw");
  await run("qemu-img", "convert", "-f", "vmdk", "-O", "raw", top, raw);
  const image = await openImage(top, { readOnly: true });
  const whole = Buffer.alloc(image.sizeBytes);
  await image.read(0, [whole]);
  assert.equal(whole.compare(readFileSync(raw)), 0);
  await image.close();
});

test("a VMDK that is its own parent is refused", { skip }, async () => {
  using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-parents-"));
  const { child } = await makeDifferencing(folder.path, "vmdk");
  const bytes = readFileSync(child);
  const text = bytes.toString("latin1");
  const at = text.indexOf("parentFileNameHint=");
  bytes.fill(" ", at, text.indexOf("\n", at));
  bytes.write(`parentFileNameHint="child.vmdk"`, at, "latin1");
  writeFileSync(child, bytes);
  await assert.rejects(openImage(child, { readOnly: true }), { code: "STORAGE_OPEN", message: /more than 64 images/ });
});

test("a path that came with an image is the last of its names", () => {
  for (const path of ["parent.vhd", "C:\\a\\parent.vhd", "/vmfs/volumes/x/parent.vhd", "..\\..\\parent.vhd"]) {
    assert.equal(fileName(path), "parent.vhd");
  }
  assert.equal(fileName(dirname("/etc/")), "");
});

test("runs of equal bits end where another begins, and at the most that is wanted", () => {
  const bytes = Buffer.from([0b1100_0001, 0b1000_0000]);
  const has = (of: Buffer, index: number) => (of[index >> 3]! & (0x80 >> (index & 7))) !== 0;
  assert.deepEqual(equalBits(bytes, 0, 16, has), { set: true, count: 2 });
  assert.deepEqual(equalBits(bytes, 2, 14, has), { set: false, count: 5 });
  assert.deepEqual(equalBits(bytes, 7, 9, has), { set: true, count: 2 });
  assert.deepEqual(equalBits(bytes, 9, 3, has), { set: false, count: 3 });
});
