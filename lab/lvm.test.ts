/** Pools of logical volumes, plain and thin, with LVM's own tools on the lab's kernel. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import { labUnavailable, runInLab } from "./lab.ts";

const root = join(import.meta.dirname, "..");
const MIB = 1 << 20;
const tools = [
  ["/usr/sbin/lvm", "lvm2"],
  ["/usr/sbin/thin_check", "thin-provisioning-tools"],
] as const;
const absent = tools.filter(([program]) => spawnSync(program, ["--help"]).error !== undefined).map(([, name]) => name);
const skip = absent.length > 0 ? `${absent.join(", ")}: not installed` : ((await labUnavailable()) ?? false);

/** There is no udev in the lab: LVM makes the device nodes itself. */
const script = `
  set -e
  modprobe -a loop dm-mod dm-thin-pool
  mkdir -p /run/lvm /run/lock/lvm
  truncate -s 300M /run/disk
  export DM_DISABLE_UDEV=1
  exec node packages/storage/testing/lvm-session.ts "$(losetup -f --show /run/disk)"
`;

test("logical volumes: made, grown, cloned, removed, and what is refused", { skip }, async () => {
  const { stdout, stderr, status } = await runInLab(["bash", "-c", script], { cwd: root, timeoutMs: 8 * 60_000 });
  assert.equal(status, 0, stderr);
  const seen = JSON.parse(stdout);
  const volume = { format: "raw", name: "one", path: "/dev/pool/one" };
  assert.deepEqual(seen.empty, []);
  assert.deepEqual(seen.one, { ...volume, sizeBytes: 20 * MIB, allocatedBytes: 20 * MIB });
  assert.deepEqual([seen.grown, seen.content], [40 * MIB, 1]);
  // The group's own data takes an extent of 4 MiB.
  assert.deepEqual(seen.capacity, { totalBytes: 296 * MIB, freeBytes: 256 * MIB });
  assert.match(seen.shrink, /^STORAGE_OPEN: .*lvreduce/);
  assert.match(seen.again, /^STORAGE_HOST: lvcreate .*already exists/);
  assert.match(seen.tooLarge, /^STORAGE_HOST: lvcreate .*insufficient free space/);
  assert.match(seen.cloned, /^STORAGE_OPEN: .*thin pool/);
  assert.match(seen.noThinPool, /^STORAGE_HOST: pool has no thin pool thin: lvcreate --type thin-pool/);
  assert.deepEqual(seen.big, {
    ...volume,
    name: "big",
    path: "/dev/pool/big",
    sizeBytes: 1024 * MIB,
    allocatedBytes: 0,
  });
  assert.deepEqual(seen.apart, [2, 3]);
  assert.deepEqual(seen.thin, [
    ["big", 1024 * MIB, true],
    ["clone", 1024 * MIB, true],
  ]);
  assert.ok(seen.thinCapacity.freeBytes < seen.thinCapacity.totalBytes && seen.thinCapacity.freeBytes > 90 * MIB);
  assert.deepEqual(seen.plain, ["one"]);
  assert.deepEqual(seen.left, [0, 1]);
});
