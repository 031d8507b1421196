/** Pools with the host's own tools. LVM needs the kernel's device mapper, and is tested in the lab (lab/lvm.test.ts). */

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempDisposableSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { missing, run as peer } from "../../testing/peers.ts";
import { openImage } from "../open.ts";
import { DevicePool } from "./device.ts";
import { FolderPool } from "./folder.ts";
import { IscsiPool, parseSessions } from "./iscsi.ts";
import { LvmPool } from "./lvm.ts";
import { NetworkFolderPool } from "./network-folder.ts";
import { run } from "./tools.ts";

const MIB = 1 << 20;
const folder = () => mkdtempDisposableSync(join(tmpdir(), "lodge-pool-"));

test("a folder: volumes are made, cloned, resized, listed and removed", { skip: missing("qemu-img") }, async () => {
  using dir = folder();
  const pool = new FolderPool(dir.path);
  await pool.start();
  const one = await pool.create("one", { sizeBytes: 64 * MIB });
  assert.deepEqual([one.name, one.format, one.sizeBytes], ["one", "qcow2", 64 * MIB]);
  await pool.create("two.raw", { sizeBytes: 8 * MIB, format: "raw" });
  const image = await openImage(one.path);
  await image.write(MIB, [Buffer.alloc(MIB, 7)]);
  await assert.rejects(pool.remove("one"), { code: "STORAGE_OPEN" }, "it is in use");
  await image.close();
  const clone = await pool.clone("one", "clone");
  assert.ok(clone.allocatedBytes < MIB && clone.sizeBytes === 64 * MIB);
  assert.match(await peer("qemu-img", "compare", one.path, clone.path), /identical/);
  assert.equal((await pool.resize("two.raw", 16 * MIB)).sizeBytes, 16 * MIB);
  writeFileSync(join(dir.path, "notes.txt"), "no image");
  mkdirSync(join(dir.path, "below"));
  assert.deepEqual(
    (await pool.volumes()).map(({ name, format }) => [name, format]),
    [
      ["clone", "qcow2"],
      ["one", "qcow2"],
      ["two.raw", "raw"],
    ],
  );
  await pool.remove("clone");
  assert.ok(!existsSync(clone.path));
  const { totalBytes, freeBytes } = await pool.capacity();
  assert.ok(freeBytes > 0 && freeBytes <= totalBytes);
});

test("what a folder refuses leaves nothing there", async () => {
  using dir = folder();
  const pool = new FolderPool(dir.path);
  for (const name of ["", "../x", "a/b", ".hidden", "-rf", "x".repeat(200)]) {
    await assert.rejects(pool.create(name, { sizeBytes: MIB }), { code: "STORAGE_OPEN", message: /is no name/ });
  }
  for (const sizeBytes of [0, -512, 100, Number.NaN, 2 ** 60]) {
    await assert.rejects(pool.create("a", { sizeBytes }), { code: "STORAGE_OPEN" });
  }
  await assert.rejects(pool.remove("none"), { code: "STORAGE_OPEN", message: /no volume "none"/ });
  assert.deepEqual(await pool.volumes(), []);
  await assert.rejects(new FolderPool(join(dir.path, "none")).start(), { code: "STORAGE_HOST", message: /ENOENT/ });
});

const asRoot = process.getuid?.() === 0 ? false : "only root can mount";

test("a mounted folder: it is mounted once, and nothing is done beside the mount", { skip: asRoot }, async () => {
  using dir = folder();
  const place = join(dir.path, "a place");
  mkdirSync(place);
  // A file system that needs no server: what is tested is the mount.
  const pool = new NetworkFolderPool({ source: "pool-test", type: "tmpfs", folder: place, options: "size=16m" });
  await assert.rejects(pool.create("x", { sizeBytes: MIB }), { code: "STORAGE_HOST", message: /is not mounted there/ });
  await pool.start();
  try {
    await pool.create("x", { sizeBytes: MIB, format: "raw" });
    assert.equal((await pool.capacity()).totalBytes, 16 * MIB);
    const second = new NetworkFolderPool({ source: "pool-test", type: "tmpfs", folder: place });
    await second.start();
    assert.equal((await second.volumes()).length, 1);
    await second.stop();
    assert.equal((await pool.volumes()).length, 1, "who found it mounted leaves it so");
  } finally {
    await pool.stop();
  }
  await assert.rejects(pool.volumes(), { code: "STORAGE_HOST" });
});

test("a network that has no such server, or a host that has not the helper", { skip: asRoot }, async () => {
  using dir = folder();
  const pool = new NetworkFolderPool({ source: "127.0.0.1:/none", type: "nfs", folder: dir.path });
  const message = existsSync("/sbin/mount.nfs") ? /^mount .*mount\.nfs: / : /^mount .*nfs-common/;
  await assert.rejects(pool.start(), { code: "STORAGE_HOST", message });
});

test("block devices: free ones are volumes, those in use are refused", { skip: asRoot }, async () => {
  using dir = folder();
  const file = join(dir.path, "disk");
  execFileSync("truncate", ["-s", "8M", file]);
  const device = execFileSync("losetup", ["--find", "--show", file], { encoding: "utf8" }).trim();
  const place = join(dir.path, "place");
  mkdirSync(place);
  let mounted = false;
  try {
    const link = join(dir.path, "by-id");
    execFileSync("ln", ["-s", device, link]);
    const pool = new DevicePool([link]);
    await pool.start();
    assert.deepEqual(await pool.volumes(), [
      { name: link, path: device, format: "raw", sizeBytes: 8 * MIB, allocatedBytes: 8 * MIB },
    ]);
    await assert.rejects(pool.create(), { code: "STORAGE_OPEN", message: /one of the host's/ });
    execFileSync("mke2fs", ["-q", device]);
    mounted = spawnSync("mount", [device, place]).status === 0;
    assert.ok(mounted);
    await assert.rejects(pool.volumes(), { code: "STORAGE_OPEN", message: /is in use: it is mounted at .*place/ });
  } finally {
    if (mounted) execFileSync("umount", [place]);
    execFileSync("losetup", ["--detach", device]);
  }
  await assert.rejects(new DevicePool(["/dev/none"]).start(), { code: "STORAGE_OPEN", message: /no such device/ });
  await assert.rejects(new DevicePool(["/dev/null"]).start(), { code: "STORAGE_OPEN", message: /no block device/ });
});

test("tools that are missing are named with their packages, and those that fail say why", async () => {
  await assert.rejects(run({ program: "lodge-has-no-such-tool", package: "some-package" }), {
    code: "STORAGE_HOST",
    message: "lodge-has-no-such-tool is not installed on this host: Debian has it in the package some-package",
  });
  await assert.rejects(run({ program: "ls", package: "coreutils" }, "/none/such"), {
    code: "STORAGE_HOST",
    message: /^ls \/none\/such: .*No such file/,
  });
  await assert.rejects(new LvmPool({ group: "lodge-none" }).start(), {
    code: "STORAGE_HOST",
    message: /vgchange|lodge-none/,
  });
  assert.throws(() => new LvmPool({ group: "a;b" }), { code: "STORAGE_OPEN" });
  const iscsi = new IscsiPool({ portal: "127.0.0.1:1", target: "iqn.2003-01.org.example:disks" });
  await assert.rejects(iscsi.start(), { code: "STORAGE_HOST", message: /iscsiadm/ });
  assert.throws(() => new IscsiPool({ portal: "--help", target: "x" }), { code: "STORAGE_OPEN" });
});

test("iscsiadm's sessions: the units of one target, each once", () => {
  // As open-iscsi 2.1 prints them (usr/session_info.c): two portals of one target, and another target.
  const session = (target: string, portal: string, disks: string[]) => `Target: ${target} (non-flash)
\tCurrent Portal: ${portal},1
\t\t************************
\t\tAttached SCSI devices:
\t\t************************
\t\tHost Number: 2\tState: running
${disks.map((disk, lun) => `\t\tscsi2 Channel 00 Id 0 Lun: ${lun}\n\t\t\tAttached scsi disk ${disk}\t\tState: running`).join("\n")}
`;
  const target = "iqn.2003-01.org.example:disks";
  const text =
    "iSCSI Transport Class version 2.0-870\n" +
    session(target, "10.0.0.1:3260", ["sda", "sdb"]) +
    session(`${target}2`, "10.0.0.3:3260", ["sde"]) +
    session(target, "10.0.0.2:3260", ["sdc", "sdd"]);
  assert.deepEqual(parseSessions(text, target), [
    { lun: 0, device: "/dev/sda" },
    { lun: 1, device: "/dev/sdb" },
  ]);
});
