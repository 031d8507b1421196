/** A guest that writes its disk while that is mirrored and goes on elsewhere, and while it is backed up. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempDisposableSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { noGuest } from "../../testing/tiny-guest.ts";
import type { LifeEvent } from "../life.ts";
import { Machine } from "../machine.ts";

const noQemu = spawnSync("qemu-img", ["--version"]).error === undefined ? false : "qemu-img is not installed";

function run(program: string, ...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(program, args, { encoding: "utf8", maxBuffer: 64 << 20 });
  assert.equal(status, 0, `${program} ${args.join(" ")}: ${stdout}${stderr}`);
  return stdout;
}

test("a file system that is written while its disk goes on elsewhere", { skip: noGuest || noQemu }, async () => {
  using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-disk-jobs-"));
  const at = (name: string) => join(folder.path, name);
  run("qemu-img", "create", "-q", "-f", "qcow2", at("disk.qcow2"), "64M");
  await using machine = await Machine.start({
    accel: "soft",
    memory: "256M",
    disks: [{ file: at("disk.qcow2") }],
  });
  const guest = async (script: string) => {
    const { stdout, stderr, status } = await machine.exec(["sh", "-ec", script]);
    assert.equal(status, 0, `${script}\n${stdout}${stderr}`);
    return stdout;
  };
  const [disk] = machine.disks;
  const told: string[] = [];
  machine.watch((event: LifeEvent) => {
    if (event.event === "block-job") told.push(`${event.job.kind} ${event.job.happened}`);
  });
  await guest("mkdosfs /dev/vda; mkdir -p /mnt/a; mount -t vfat /dev/vda /mnt/a");
  // Each file is what its neighbour is not; a new one begins as long as /tmp/stop is not there.
  const writes = guest(`n=0; while [ ! -e /tmp/stop ] && [ $n -lt 40 ]; do
    dd if=/dev/urandom of=/tmp/part bs=64k count=3 2>/dev/null
    cp /tmp/part /mnt/a/file$n; sync; sha256sum </tmp/part >>/tmp/sums; n=$((n+1)); done; echo $n`);
  await guest("until [ -e /mnt/a/file1 ]; do :; done");
  const first = Buffer.from(await guest("head -c 4096 /mnt/a/file0 | base64"), "base64");
  const backup = await disk!.jobs.backup({ target: at("backup.raw"), format: "raw" });
  assert.equal(await backup.ended, "completed");
  const mirror = await disk!.jobs.mirror({ target: at("mirror.qcow2"), mode: "write-blocking", speed: 40e6 });
  await new Promise<void>((resolve, reject) => {
    mirror.watch(({ event }) => {
      if (event === "ready") resolve();
      if (event === "concluded") reject(mirror.error ?? new Error("it ended"));
    });
  });
  const before = Number(await guest("wc -l </tmp/sums"));
  await guest(`until [ $(wc -l </tmp/sums) -gt ${before} ] || [ -e /mnt/a/file39 ]; do :; done`);
  mirror.complete();
  assert.equal(await mirror.ended, "completed");
  assert.equal(disk!.file, at("mirror.qcow2"));
  const now = Number(await guest("wc -l </tmp/sums"));
  await guest(`until [ $(wc -l </tmp/sums) -gt ${now} ] || [ -e /mnt/a/file39 ]; do :; done; : >/tmp/stop`);
  const count = Number(await writes);
  assert.ok(count > 2);
  const sums = await guest(
    `umount /mnt/a; echo 3 >/proc/sys/vm/drop_caches; mount -t vfat /dev/vda /mnt/a; n=0; while [ $n -lt ${count} ]; do sha256sum </mnt/a/file$n; n=$((n+1)); done; umount /mnt/a`,
  );
  assert.equal(sums, await guest("cat /tmp/sums"));
  assert.ok(told.includes("backup completed") && told.includes("mirror ready") && told.includes("mirror completed"));
  // A machine that is stopped ends the job that is at work.
  const left = await disk!.jobs.mirror({ target: at("left.raw"), format: "raw", speed: 1 });
  await machine.stop();
  assert.equal(await left.ended, "cancelled");
  for (const image of ["disk.qcow2", "mirror.qcow2"]) run("qemu-img", "check", "-q", at(image));
  // What was on the disk when the backup began is in it: the first file, which was there then, byte by byte.
  assert.ok(readFileSync(at("backup.raw")).includes(first));
});
