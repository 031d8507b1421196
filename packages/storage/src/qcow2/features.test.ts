/** What docs/storage.md's table says of qcow2 and no other test is about, with QEMU as the other side. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempDisposableSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { missing } from "../../testing/peers.ts";
import { qemuCheck, qemuImg, qemuIo, qemuMissing } from "../../testing/qemu.ts";
import { HostFile } from "../file/host-file.ts";
import { openImage } from "../open.ts";
import { createImage } from "../operations/create.ts";
import { readBitmapDirectory } from "./bitmaps/directory.ts";
import type { Qcow2Image } from "./qcow2-image.ts";
import { applySnapshot, createSnapshot, deleteSnapshot, listSnapshots } from "./snapshots.ts";
import { readHeader } from "./stored.ts";

const MIB = 1 << 20;
const TIB = 2 ** 40;
const skip = qemuMissing;
const folder = () => mkdtempDisposableSync(join(tmpdir(), "lodge-features-"));
const open = async (path: string) => (await openImage(path, { format: "qcow2" })) as Qcow2Image;
const bytes = (value: number, length = 65536) => new Uint8Array(length).fill(value);

test("disks of 64 TiB, ours and QEMU's, written at both ends", { skip }, async () => {
  using dir = folder();
  const [ours, theirs] = [join(dir.path, "ours"), join(dir.path, "theirs")];
  await createImage(ours, { format: "qcow2", sizeBytes: 64 * TIB });
  qemuImg("create", "-q", "-f", "qcow2", "-o", "cluster_size=2M", theirs, "64T");
  for (const path of [ours, theirs]) {
    const image = await open(path);
    assert.equal(image.sizeBytes, 64 * TIB);
    await image.write(64 * TIB - 65536, [bytes(3)]);
    await image.write(0, [bytes(4)]);
    await image.close();
    qemuIo(path, `read -P 3 ${64 * TIB - 65536} 64k`, "read -P 4 0 64k", `write -P 5 ${40 * TIB} 64k`);
    const again = await open(path);
    const found = bytes(0);
    await again.read(40 * TIB, [found]);
    assert.deepEqual(found, bytes(5));
    await again.close();
    qemuCheck(path);
  }
  await assert.rejects(
    createImage(ours, { format: "qcow2", sizeBytes: 64 * TIB, clusterSize: 512 }),
    /take larger ones/,
  );
});

test("refcounts of every width, in images of QEMU's", { skip }, async () => {
  using dir = folder();
  for (const bits of [1, 2, 4, 8, 16, 32, 64]) {
    const path = join(dir.path, `${bits}`);
    qemuImg("create", "-q", "-f", "qcow2", "-o", `refcount_bits=${bits},cluster_size=4k`, path, "64M");
    qemuIo(path, "write -P 1 0 6M");
    const image = await open(path);
    for (let at = 0; at < 12 * MIB; at += 3 * 65536) await image.write(at, [bytes(2)]);
    await image.discard(0, 4 * MIB);
    if (bits > 1) await createSnapshot(image, "kept");
    else await assert.rejects(createSnapshot(image, "kept"), /too narrow/);
    await image.write(8 * MIB, [bytes(3)]);
    await image.close();
    qemuCheck(path);
    qemuIo(path, "read -P 3 8M 64k", "read -P 2 9M 64k");
  }
});

test("discards and zeros give the host's space back with the next flush", { skip }, async () => {
  using dir = folder();
  const path = join(dir.path, "image");
  await createImage(path, { format: "qcow2", sizeBytes: 64 * MIB });
  const image = await open(path);
  for (let at = 0; at < 16 * MIB; at += MIB) await image.write(at, [bytes(1, MIB)]);
  await image.flush();
  const used = () => statSync(path).blocks * 512;
  const before = used();
  await image.discard(0, 8 * MIB);
  await image.writeZeroes(8 * MIB, 4 * MIB, true);
  await image.flush();
  await image.metadata.reclaimed();
  assert.ok(used() <= before - 12 * MIB, `${before} before, ${used()} now`);
  await image.close();
  qemuCheck(path);
  qemuIo(path, "read -P 0 0 12M", "read -P 1 12M 4M");
});

test("guest data that is said to be where tables are is not written, and the image is marked corrupt", {
  skip,
}, async () => {
  using dir = folder();
  const path = join(dir.path, "image");
  const corrupt = () => JSON.parse(qemuImg("info", "--output=json", path))["format-specific"].data.corrupt;
  qemuImg("create", "-q", "-f", "qcow2", path, "8M");
  qemuImg("snapshot", "-c", "kept", path);
  qemuIo(path, "write 0 64k");
  // The header is not among them: an entry that leads there leads nowhere.
  const made = await open(path);
  const { header, mapping, refcounts } = made.metadata;
  const [snapshot] = await listSnapshots(made);
  const tables = [
    snapshot!.l1Offset,
    header.l1Offset,
    mapping.tableAt(0),
    header.refcountTableOffset,
    refcounts.blockAt(0),
    header.snapshotsOffset,
  ];
  const entry = mapping.tableAt(0);
  await made.close();
  for (const place of tables) {
    const store = await HostFile.open(path);
    const value = Buffer.alloc(8);
    value.writeBigUInt64BE((1n << 63n) + BigInt(place));
    await store.write(entry, [value]);
    const before = Buffer.alloc(4096);
    await store.read(place, [before]);
    await store.close();
    assert.equal(corrupt(), false);
    const image = await open(path);
    const message = /where its own tables are/;
    await assert.rejects(image.write(0, [bytes(1, 4096)]), { code: "STORAGE_CORRUPT", message });
    await image.close();
    assert.equal(corrupt(), true);
    const after = Buffer.alloc(4096);
    const read = await HostFile.open(path);
    await read.read(place, [after]);
    assert.deepEqual(after, before);
    // Incompatible features, bit 1.
    await read.write(79, [new Uint8Array(1)]);
    await read.close();
  }
});

test("guest data that is said to be where the list of bitmaps is, is not written", { skip }, async () => {
  using dir = folder();
  const path = join(dir.path, "image");
  qemuImg("create", "-q", "-f", "qcow2", path, "8M");
  qemuImg("bitmap", "--add", path, "kept");
  qemuIo(path, "write 0 64k");
  const store = await HostFile.open(path);
  const directory = (await readBitmapDirectory(store, await readHeader(store)))!;
  const field = Buffer.alloc(8);
  await store.read(40, [field]);
  await store.read(Number(field.readBigUInt64BE()), [field]);
  const table = Number(field.readBigUInt64BE() & 0x00ff_ffff_ffff_fe00n);
  field.writeBigUInt64BE((1n << 63n) + BigInt(directory.offset));
  await store.write(table, [field]);
  await store.close();
  const image = await open(path);
  const message = /where its own tables are/;
  await assert.rejects(image.write(0, [bytes(1, 4096)]), { code: "STORAGE_CORRUPT", message });
  await image.close();
  const { bitmaps } = JSON.parse(qemuImg("info", "--output=json", path))["format-specific"].data;
  assert.deepEqual(bitmaps, [{ flags: ["auto"], name: "kept", granularity: 65536 }]);
});

test("bitmaps beyond what is kept in memory are in use afterwards, the others are kept", { skip }, async () => {
  using dir = folder();
  const path = join(dir.path, "image");
  qemuImg("create", "-q", "-f", "qcow2", path, "1T");
  qemuImg("bitmap", "--add", "-g", "512", path, "fine");
  qemuImg("bitmap", "--add", path, "coarse");
  const image = await open(path);
  await image.write(0, [bytes(1, 512)]);
  await image.close();
  const { bitmaps } = JSON.parse(qemuImg("info", "--output=json", path))["format-specific"].data;
  assert.deepEqual(
    bitmaps.map(({ name, flags }: { name: string; flags: string[] }) => [name, flags]),
    [
      ["fine", ["in-use", "auto"]],
      ["coarse", ["auto"]],
    ],
  );
  qemuCheck(path);
});

/** crypt_method of LUKS (QEMU, docs/interop/qcow2.txt). */
const CRYPT_LUKS = 2;

test("what Lodge does not do is refused by name", { skip }, async () => {
  using dir = folder();
  const at = (name: string) => join(dir.path, name);
  const secret = ["--object", "secret,id=key,data=secret"];
  qemuImg("create", "-q", ...secret, "-f", "qcow2", "-o", "encrypt.format=aes,encrypt.key-secret=key", at("aes"), "1M");
  await assert.rejects(open(at("aes")), { code: "STORAGE_OPEN", message: /encryption/ });
  // QEMU makes LUKS only where it can time itself: a host that counts processor time in ticks refuses one in three.
  const luks = readFileSync(at("aes"));
  luks.writeUInt32BE(CRYPT_LUKS, 32);
  writeFileSync(at("luks"), luks);
  await assert.rejects(open(at("luks")), { code: "STORAGE_OPEN", message: /encryption/ });
  qemuImg("create", "-q", "-f", "qcow2", "-o", `data_file=${at("data")}`, at("external"), "1M");
  await assert.rejects(open(at("external")), { code: "STORAGE_OPEN", message: /external data file \(bit 2\)/ });
});

const qemu = missing("qemu-system-x86_64");

test("the state of a machine that QEMU keeps in an image stays", { skip: skip || qemu }, async () => {
  using dir = folder();
  const path = join(dir.path, "image");
  qemuImg("create", "-q", "-f", "qcow2", path, "8M");
  qemuIo(path, "write -P 1 0 1M");
  const machine = [
    "-M",
    "q35",
    "-accel",
    "tcg",
    "-m",
    "16",
    "-S",
    "-nodefaults",
    "-display",
    "none",
    "-monitor",
    "stdio",
  ];
  const drive = ["-drive", `if=virtio,file=${path},format=qcow2`];
  const monitor = (text: string) => {
    const { status, stdout } = spawnSync("qemu-system-x86_64", [...machine, ...drive], {
      input: `${text}\nquit\n`,
      encoding: "utf8",
    });
    assert.equal(status, 0);
    assert.doesNotMatch(stdout, /Error|does not/);
  };
  monitor("savevm machine");
  const image = await open(path);
  const [kept] = await listSnapshots(image);
  assert.equal(kept?.name, "machine");
  await image.write(0, [bytes(2, MIB)]);
  const { id } = await createSnapshot(image, "ours");
  await image.write(0, [bytes(3, MIB)]);
  await applySnapshot(image, id);
  await deleteSnapshot(image, id);
  await image.resize(16 * MIB);
  await image.resize(8 * MIB);
  await image.close();
  qemuCheck(path);
  qemuIo(path, "read -P 2 0 1M");
  monitor("loadvm machine");
  qemuIo(path, "read -P 1 0 1M");
  qemuCheck(path);
});
