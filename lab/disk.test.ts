/** `lodge run --disk` on the kernel's real KVM, with QEMU's tools as the judges of the image. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { prepareImage } from "@lodge/vmm";
import { bootFunction } from "./guest-boot.ts";
import { labUnavailable, runInLab } from "./lab.ts";

/** In the guest: a file system over its whole life, and a sum of what the disk is then. */
const GUEST = `set -e
mkdosfs /dev/vda
mkdir -p /mnt/disk
mount -t vfat /dev/vda /mnt/disk
dd if=/dev/urandom of=/mnt/disk/file bs=64k count=64 conv=fsync 2>/dev/null
umount /mnt/disk
mount -t vfat /dev/vda /mnt/disk
cmp /mnt/disk/file /mnt/disk/file
umount /mnt/disk
sync
sha256sum /dev/vda | cut -c1-64`;

const HOST = `set -e
${bootFunction}
qemu-img create -q -f qcow2 /tmp/disk.qcow2 32M
boot --memory 256M --net none --disk /tmp/disk.qcow2 -- sh -c "$1"
qemu-img check -q /tmp/disk.qcow2
qemu-img convert -f qcow2 -O raw /tmp/disk.qcow2 /tmp/disk.raw
sha256sum /tmp/disk.raw | cut -c1-64`;

test("a qcow2 disk on kvm-amd", { skip: (await labUnavailable()) ?? false }, async () => {
  // Inside there is no network to make it with.
  await prepareImage("tiny");
  const { stdout, stderr, status } = await runInLab(["sh", "-c", HOST, "sh", GUEST], {
    timeoutMs: 9 * 60_000,
    memoryMiB: 2048,
  });
  assert.equal(status, 0, stderr);
  const [inGuest, onHost] = stdout.trim().split("\n").slice(-2);
  assert.match(inGuest!, /^[0-9a-f]{64}$/);
  assert.equal(inGuest, onHost);
});
