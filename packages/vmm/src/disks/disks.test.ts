/** Disks of every kind as Debian's own driver works them, with QEMU's tools as the judges of what is left on the host. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { noGuest } from "../../testing/tiny-guest.ts";
import type { LifeEvent } from "../life.ts";
import { Machine } from "../machine.ts";
import { AttachedDisk } from "./attached-disk.ts";

const MIB = 1 << 20;
const noQemu = spawnSync("qemu-img", ["--version"]).error === undefined ? false : "qemu-img is not installed";
const sha256 = (data: Uint8Array) => createHash("sha256").update(data).digest("hex");

function run(program: string, ...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(program, args, { encoding: "utf8" });
  assert.equal(status, 0, `${program} ${args.join(" ")}: ${stdout}${stderr}`);
  return stdout;
}

suite("disks", { skip: noGuest || noQemu }, () => {
  const folder = mkdtempSync(join(tmpdir(), "lodge-disks-"));
  const at = (name: string) => join(folder, name);
  /** A small file system, where the host lets us have one. */
  const small = at("small");
  let mounted = false;
  const content = randomBytes(4 * MIB);
  const base = randomBytes(MIB);
  let machine: Machine;

  /** Runs a script in the guest, which ends well. */
  const guest = async (script: string) => {
    const { stdout, stderr, status } = await machine.exec(["sh", "-ec", script]);
    assert.equal(status, 0, `${script}\n${stdout}${stderr}`);
    return stdout;
  };
  /** The next event of a kind. */
  const next = <E extends LifeEvent["event"]>(wanted: E) =>
    new Promise<Extract<LifeEvent, { event: E }>>((resolve) => {
      const watch = machine.watch((event) => {
        if (event.event !== wanted) return;
        watch[Symbol.dispose]();
        resolve(event as Extract<LifeEvent, { event: E }>);
      });
    });

  before(async () => {
    mkdirSync(small);
    mounted = spawnSync("mount", ["-t", "tmpfs", "-o", "size=8M", "none", small]).status === 0;
    writeFileSync(at("content.raw"), content);
    writeFileSync(at("base.raw"), base);
    truncateSync(at("base.raw"), 64 * MIB);
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", at("thin.qcow2"));
    run("qemu-img", "create", "-q", "-f", "qcow2", at("fresh.qcow2"), "32M");
    writeFileSync(join(small, "disk.raw"), "");
    truncateSync(join(small, "disk.raw"), 64 * MIB);
    writeFileSync(at("served.raw"), "");
    truncateSync(at("served.raw"), 16 * MIB);
    // It is there when the program that was started has ended.
    run(
      "qemu-nbd",
      "--fork",
      "--persistent",
      `--pid-file=${at("nbd.pid")}`,
      `--socket=${at("nbd")}`,
      "--format=raw",
      at("served.raw"),
    );
    machine = await Machine.start({
      accel: "soft",
      memory: "256M",
      disks: [
        { file: at("content.raw"), readonly: true },
        { file: at("thin.qcow2"), cache: "writethrough" },
        { file: at("fresh.qcow2"), serial: "fresh" },
        { file: join(small, "disk.raw"), error: "stop" },
        { file: `nbd+unix:///?socket=${at("nbd")}`, cache: "unsafe" },
      ],
    });
  });
  after(async () => {
    await machine?.stop();
    process.kill(Number(readFileSync(at("nbd.pid"), "utf8")));
    if (mounted) run("umount", small);
    rmSync(folder, { recursive: true });
  });

  test("the guest is told of the cache that there is", async () => {
    const modes = await guest("cat /sys/block/vdb/queue/write_cache /sys/block/vdc/queue/write_cache");
    assert.equal(modes, "write through\nwrite back\n");
  });

  test("qcow2: data through the guest's driver, over a backing file", async () => {
    await guest("dd if=/dev/vda of=/dev/vdb bs=64k seek=100 conv=fsync 2>/dev/null");
    const sums = await guest(
      "dd if=/dev/vdb bs=64k skip=100 count=64 2>/dev/null | sha256sum; head -c 1048576 /dev/vdb | sha256sum",
    );
    assert.deepEqual(
      sums.split("\n").map((line) => line.slice(0, 64)),
      [sha256(content), sha256(base), ""],
    );
  });

  test("qcow2: a file system, its files, and what is discarded", async () => {
    await guest(
      "mkdosfs /dev/vdc; mkdir -p /mnt/c; mount -t vfat /dev/vdc /mnt/c; cp /dev/vda /mnt/c/copy; umount /mnt/c",
    );
    assert.equal(
      (await guest("mount -t vfat /dev/vdc /mnt/c; sha256sum </mnt/c/copy; umount /mnt/c")).slice(0, 64),
      sha256(content),
    );
    await guest("blkdiscard -o 16777216 -l 8388608 /dev/vdc; sync");
  });

  test("an NBD export that QEMU serves", async () => {
    await guest("dd if=/dev/vda of=/dev/vde bs=64k seek=16 conv=fsync 2>/dev/null");
    const sum = await guest(
      "echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/vde bs=64k skip=16 count=64 2>/dev/null | sha256sum",
    );
    assert.equal(sum.slice(0, 64), sha256(content));
  });

  test("limits hold at once, and are lifted under those that wait", async () => {
    const disk = machine.disks[2]!;
    disk.limits = { iops: 1e-3, iopsBurst: 1 };
    const read = guest(
      "echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/vdc of=/dev/null bs=64k count=8 2>/dev/null; echo done",
    );
    // The guest is alive meanwhile, and the disk stands still.
    const before = await guest("cat /sys/block/vdc/inflight");
    assert.ok(before.length > 0);
    disk.limits = {};
    assert.equal(await read, "done\n");
  });

  test("a disk grows, and the guest's driver hears of it", async () => {
    const disk = machine.disks[2]!;
    await assert.rejects(disk.resize(1000), {
      code: "VMM_CONFIG",
      message: /1000 bytes: a disk has a multiple of 512/,
    });
    await disk.resize(48 * MIB);
    await guest(`until [ $(cat /sys/block/vdc/size) = ${(48 * MIB) / 512} ]; do :; done`);
    await guest("dd if=/dev/vda of=/dev/vdc bs=64k seek=640 conv=fsync 2>/dev/null");
  });

  test("a full host disk pauses the machine, and nothing is lost when it goes on by itself", async (t) => {
    if (!mounted) return t.skip("file systems cannot be mounted here");
    const [failed, paused] = [next("disk-error"), next("paused")];
    const copied = guest(
      "for at in 0 64 128 192; do dd if=/dev/vda of=/dev/vdd bs=64k seek=$at conv=fsync 2>/dev/null; done; sha256sum </dev/vdd",
    );
    const { file, message, operation, action, noSpace } = await failed;
    assert.deepEqual([file, operation, action, noSpace], [join(small, "disk.raw"), "write", "stop", true]);
    assert.match(message, /disk\.raw: write failed: .*no space left/i);
    await paused;
    assert.equal(machine.state, "paused");
    const resumed = next("resumed");
    run("mount", "-o", "remount,size=64M", small);
    await resumed;
    const expected = Buffer.alloc(64 * MIB);
    for (const index of [0, 1, 2, 3]) content.copy(expected, index * content.length);
    assert.equal((await copied).slice(0, 64), sha256(expected));
    assert.equal(sha256(readFileSync(join(small, "disk.raw"))), sha256(expected));
  });

  test("what is left on the host is what the guest wrote, and clean", async () => {
    await machine.stop();
    const served = readFileSync(at("served.raw"));
    assert.ok(served.subarray(MIB, MIB + content.length).equals(content), "what went over NBD");
    for (const image of ["thin.qcow2", "fresh.qcow2"]) run("qemu-img", "check", "-q", at(image));
    const expected = Buffer.alloc(64 * MIB);
    base.copy(expected);
    content.copy(expected, 100 * 65536);
    writeFileSync(at("expected.raw"), expected);
    run("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "raw", at("thin.qcow2"), at("expected.raw"));
    run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", at("fresh.qcow2"), at("fresh.raw"));
    const fresh = readFileSync(at("fresh.raw"));
    assert.equal(fresh.length, 48 * MIB);
    assert.ok(fresh.subarray(640 * 65536, 640 * 65536 + content.length).equals(content));
    assert.ok(
      fresh.subarray(16 * MIB, 24 * MIB).every((byte) => byte === 0),
      "what was discarded",
    );
  });
});

test("an image whose name does not say what it is, and a format that is only read", { skip: noQemu }, async () => {
  const folder = mkdtempSync(join(tmpdir(), "lodge-format-"));
  try {
    const image = join(folder, "disk.img");
    run("qemu-img", "create", "-q", "-f", "qcow2", image, "1M");
    await assert.rejects(AttachedDisk.open("disk0", { file: image }, 1), {
      code: "VMM_CONFIG",
      message: /looks like qcow2, and its name does not say so: say format=qcow2, or format=raw/,
    });
    {
      await using disk = await AttachedDisk.open("disk0", { file: image, format: "qcow2" }, 1);
      assert.equal(disk.format, "qcow2");
    }
    // The guest sees the header, then.
    truncateSync(image, MIB);
    await using raw = await AttachedDisk.open("disk0", { file: image, format: "raw" }, 1);
    assert.deepEqual([raw.format, raw.sizeBytes], ["raw", MIB]);
    const vmdk = join(folder, "disk.vmdk");
    run("qemu-img", "create", "-q", "-f", "vmdk", vmdk, "1M");
    await assert.rejects(
      AttachedDisk.open("disk0", { file: vmdk }, 1),
      /vmdk is read and not written: open it read-only/,
    );
    await using disk = await AttachedDisk.open("disk0", { file: vmdk, readonly: true }, 1);
    assert.deepEqual([disk.format, disk.sizeBytes], ["vmdk", MIB]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
