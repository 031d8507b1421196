/** The pool in a server's folder: the NFS server and client of the lab's kernel, with Debian's tools for both. */

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { labUnavailable, runInLab } from "./lab.ts";

const root = join(import.meta.dirname, "..");
const MIB = 1 << 20;
const tools = [
  ["/usr/sbin/rpc.nfsd", "nfs-kernel-server"],
  ["/usr/sbin/mount.nfs4", "nfs-common"],
  ["/usr/bin/qemu-img", "qemu-utils"],
] as const;
const absent = tools.filter(([program]) => !existsSync(program)).map(([, name]) => name);
const skip = absent.length > 0 ? `${absent.join(", ")}: not installed` : ((await labUnavailable()) ?? false);

/** rpc.mountd answers the kernel's questions about exports; it goes with the lab, as do the kernel's own threads. */
const script = `
  set -e
  modprobe -a nfsd nfsv4
  mkdir -p /run/export /run/pool /var/lib/nfs/v4recovery /run/rpc_pipefs
  mount -t tmpfs -o size=256M disks /run/export
  mount -t nfsd nfsd /proc/fs/nfsd
  # As the root of what the server shows: the lab's own cannot be exported.
  echo "/run/export 127.0.0.1(rw,no_root_squash,insecure,no_subtree_check,fsid=0)" >/etc/exports
  touch /var/lib/nfs/etab /var/lib/nfs/rmtab
  exportfs -r
  rpc.mountd -N 3 >/dev/null 2>&1
  # Nobody holds a lock of a server that was there before.
  rpc.nfsd --no-nfs-version 3 --grace-time 10 --lease-time 10 2
  exec node packages/storage/testing/nfs-session.ts 127.0.0.1:/ /run/pool /run/export
`;

test("a pool over NFS: mounted, written, locked, cloned, unmounted", { skip }, async () => {
  const { stdout, stderr, status } = await runInLab(["bash", "-c", script], { cwd: root, timeoutMs: 8 * 60_000 });
  assert.equal(status, 0, stderr);
  const seen = JSON.parse(stdout);
  assert.match(seen.unknown, /^STORAGE_HOST: mount(\.nfs4)? .*127\.0\.0\.1:\/none/);
  assert.match(seen.before, /^STORAGE_HOST: .*is not mounted there/);
  assert.equal(seen.again, "not refused");
  for (const cache of ["writeback", "none"]) {
    const [ours, theirs] = seen[`locked ${cache}`];
    assert.match(ours, /^STORAGE_OPEN: .*in use by another process/);
    assert.equal(theirs, 1);
  }
  assert.equal(seen.same, true);
  assert.deepEqual(seen.checks, [0, 0]);
  assert.equal(seen.grown, 128 * MIB);
  assert.deepEqual(seen.volumes, [
    ["copy.qcow2", "qcow2", 128 * MIB],
    ["web.qcow2", "qcow2", 64 * MIB],
  ]);
  assert.equal(seen.capacity, true);
  assert.deepEqual(seen.server, ["copy.qcow2", "web.qcow2"]);
  assert.deepEqual(seen.left, []);
  assert.match(seen.after, /^STORAGE_HOST: .*is not mounted there/);
  assert.deepEqual(seen.kept, ["web.qcow2"]);
});
