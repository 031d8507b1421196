/** Pools of block devices that others stand on, with the device mapper and partitions of the lab's kernel. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import { labUnavailable, runInLab } from "./lab.ts";

const root = join(import.meta.dirname, "..");
const tools = [
  ["/usr/sbin/dmsetup", "dmsetup"],
  ["/usr/sbin/mke2fs", "e2fsprogs"],
] as const;
const absent = tools
  .filter(([program]) => spawnSync(program, ["--version"]).error !== undefined)
  .map(([, name]) => name);
const skip = absent.length > 0 ? `${absent.join(", ")}: not installed` : ((await labUnavailable()) ?? false);

/**
 * Two paths to one disk (loop0, loop1) and a multipath device; a disk that is part of another device (loop2); and two with a partition,
 * from the second MiB on, of which one is mounted (loop3, loop4).
 */
const script = `
  set -e
  modprobe -a loop dm-mod dm-multipath dm-round-robin ext4
  export DM_DISABLE_UDEV=1
  cd /run
  truncate -s 64M shared part mounted free
  for file in shared shared part; do losetup /dev/loop$((n++)) $file; done
  for file in mounted free; do
    put() { dd of=$file bs=1 seek=$1 conv=notrunc 2>/dev/null; }
    printf '\\0\\0\\2\\0\\203\\377\\377\\377\\0\\10\\0\\0\\0\\370\\1\\0' | put 446
    printf '\\125\\252' | put 510
    losetup -P /dev/loop$((n++)) $file
  done
  dmsetup create shared --uuid mpath-36000 --table '0 131072 multipath 0 0 1 1 round-robin 0 2 1 7:0 1 7:1 1'
  dmsetup create joined --table '0 131072 linear 7:2 0'
  [ -e /dev/loop3p1 ] || mknod /dev/loop3p1 b $(tr : ' ' </sys/block/loop3/loop3p1/dev)
  mke2fs -q /dev/loop3p1
  mkdir place
  mount /dev/loop3p1 place
  cd - >/dev/null
  exec node packages/storage/testing/device-session.ts /dev/loop0 /dev/loop1 /dev/mapper/shared /dev/loop2 /dev/loop3 /dev/loop4
`;

test("devices: multipath is found from each of its paths, and what stands on others keeps them", { skip }, async () => {
  const { stdout, stderr, status } = await runInLab(["bash", "-c", script], { cwd: root, timeoutMs: 8 * 60_000 });
  assert.equal(status, 0, stderr);
  assert.deepEqual(JSON.parse(stdout), {
    "/dev/loop0": "/dev/mapper/shared",
    "/dev/loop1": "/dev/mapper/shared",
    "/dev/mapper/shared": "/dev/mapper/shared",
    "/dev/loop2": "/dev/loop2 is in use: /dev/mapper/joined (dm) stands on it",
    "/dev/loop3": "/dev/loop3 is in use: it is mounted at /run/place",
    "/dev/loop4": "/dev/loop4",
  });
});
