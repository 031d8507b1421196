/** The pool of an iSCSI target's units: open-iscsi's initiator on the lab's kernel, tgt's target. */

import assert from "node:assert/strict";
import { existsSync, globSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { prepareImage } from "./image.ts";
import { labUnavailable, runInLab } from "./lab.ts";

const root = join(import.meta.dirname, "..");
const MIB = 1 << 20;
const TARGET = "iqn.2003-01.org.example:disks";
const tools = [
  ["/usr/sbin/iscsid", "open-iscsi"],
  ["/usr/sbin/tgtd", "tgt"],
] as const;

async function unavailable(): Promise<string | false> {
  const absent = tools.filter(([program]) => !existsSync(program)).map(([, name]) => name);
  if (absent.length > 0) return `${absent.join(", ")}: not installed`;
  const why = await labUnavailable();
  if (why !== undefined) return why;
  const { modules } = await prepareImage();
  if (globSync("kernel/drivers/scsi/iscsi_tcp.*", { cwd: modules }).length > 0) return false;
  return "the lab's kernel was fetched when it was kept without SCSI: node lab/main.ts --rebuild true";
}

/** iscsid and tgtd stay when the script ends; they go with the lab. */
const script = `
  set -e
  modprobe -a scsi_mod sd_mod scsi_transport_iscsi iscsi_tcp
  mkdir -p /run/lock/iscsi /run/initiator
  echo "InitiatorName=iqn.2003-01.org.example:lab" >/etc/iscsi/initiatorname.iscsi
  # There is no systemd to start it.
  sed -i "s/^iscsid.startup.*/iscsid.startup = true/" /etc/iscsi/iscsid.conf
  iscsid >/dev/null 2>&1
  tgtd >/dev/null 2>&1
  truncate -s 64M /run/one
  truncate -s 32M /run/two
  tgtadm --lld iscsi --mode target --op new --tid 1 --targetname ${TARGET}
  tgtadm --lld iscsi --mode logicalunit --op new --tid 1 --lun 1 --backing-store /run/one
  tgtadm --lld iscsi --mode logicalunit --op new --tid 1 --lun 2 --backing-store /run/two
  tgtadm --lld iscsi --mode target --op bind --tid 1 --initiator-address ALL
  exec node packages/storage/testing/iscsi-session.ts 127.0.0.1 ${TARGET} /run/one
`;

test("an iSCSI target's units: logged in, found, written, logged out", { skip: await unavailable() }, async () => {
  const { stdout, stderr, status } = await runInLab(["bash", "-c", script], { cwd: root, timeoutMs: 8 * 60_000 });
  assert.equal(status, 0, stderr);
  const seen = JSON.parse(stdout);
  assert.match(seen.none, /^STORAGE_HOST: iscsiadm /);
  assert.deepEqual(seen.volumes, [
    { name: "lun-1", format: "raw", sizeBytes: 64 * MIB },
    { name: "lun-2", format: "raw", sizeBytes: 32 * MIB },
  ]);
  assert.deepEqual(seen.capacity, { totalBytes: 96 * MIB, freeBytes: 0 });
  assert.equal(seen.sizeBytes, 64 * MIB);
  assert.deepEqual(seen.stored, [0, 7, 0, 7]);
  assert.match(seen.create, /^STORAGE_OPEN: .*target's administrator/);
  assert.deepEqual([seen.shared, seen.after], [2, 0]);
});
