/**
 * Our virtio-9p with the driver that Debian's stock kernel has for it. (The cloud kernel of our images has none, so that the
 * other devices' tests, packages/vmm/src/virtio.test.ts, cannot have this one.)
 */

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { P9Device } from "@lodge/devices";
import { Pc } from "@lodge/machine";
import { prepareImage } from "./image.ts";
import { makeInitramfs, readIngredients } from "./initramfs.ts";
import { missingTools, toolsToBuild } from "./tools.ts";

const skip = missingTools(toolsToBuild) ?? false;

/** First program of the guest: mounts both shares, does everything once, and says how each went. */
const INIT = `#!/bin/busybox sh
mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1
/bin/busybox --install -s /bin
mount -t proc proc /proc
for module in $(cat /modules/transport) $(cat /modules/files); do insmod /modules/$module.ko; done
mkdir /share /fixed
say() { echo "@@ $1: $2"; }
try() { name=$1; shift; if "$@" >/tmp/out 2>&1; then say $name "$(cat /tmp/out)"; else say $name "failed, $(cat /tmp/out)"; fi; }
try mount mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 work /share
try mount-fixed mount -t 9p -o trans=virtio,version=9p2000.L fixed /fixed
try read sh -c 'sha256sum </share/from-host'
try copy sh -c 'cp /share/from-host /share/from-guest && chmod 640 /share/from-guest'
cd /share
try names sh -c 'mkdir -p a/b && echo one >a/b/file && mv a/b/file a/moved && ln a/moved a/second && ln -s moved a/link &&
  rm a/second && rmdir a/b && echo two >>a/link && touch -d @1000000000 a/moved'
try list sh -c 'echo $(ls a) $(readlink a/link)'
try many sh -c 'for n in $(seq 1 300); do : >many-$n; done; ls | grep -c many-'
try truncate sh -c 'truncate -s 5 a/moved; cat a/moved'
try unlinked sh -c 'exec 3<>open; echo kept >&3; rm open; cat /proc/self/fd/3'
try space sh -c 'df . | tail -n 1 | grep -q work'
try leak cat leak
try up cat ../../secret
try device mknod device c 1 3
try pipe mkfifo pipe
try fixed cat /fixed/file
try fixed-write sh -c 'echo x >/fixed/file'
try fixed-remove rm /fixed/file
try fixed-make mkdir /fixed/new
cd /
try unmount umount /share
poweroff -f
`;

const sha256 = (data: Uint8Array) => createHash("sha256").update(data).digest("hex");

test("a stock kernel works our shared folders, and nothing outside them", { skip }, async () => {
  const folder = mkdtempSync(join(tmpdir(), "lodge-share-"));
  after(() => rmSync(folder, { recursive: true }));
  const at = (name: string) => join(folder, name);
  const content = randomBytes(300_000);
  mkdirSync(at("work"));
  mkdirSync(at("fixed"));
  writeFileSync(at("secret"), "the host's own");
  writeFileSync(at("work/from-host"), content);
  symlinkSync("../secret", at("work/leak"));
  writeFileSync(at("fixed/file"), "fixed");
  const work = new P9Device({ folder: at("work"), tag: "work" });
  const fixed = new P9Device({ folder: at("fixed"), tag: "fixed", readOnly: true });
  const image = await prepareImage();
  let said = "";
  const machine = await Pc.create({
    accelerator: "soft",
    memoryBytes: 256 << 20,
    cpus: { count: 1 },
    kernel: readFileSync(image.bzImage),
    initrd: makeInitramfs({ ...readIngredients(), init: Buffer.from(INIT) }, image.modules),
    commandLine: "console=ttyS0 quiet panic=-1",
    serial: [
      (bytes) => {
        said += Buffer.from(bytes).toString("latin1");
      },
    ],
    virtio: [work, fixed],
  });
  machine.start();
  const end = await machine.ended;
  await machine.stop();
  work.close();
  fixed.close();
  assert.equal(end.reason, "power-off", said);
  // Not what the kernel says in between.
  const lines = said.replaceAll("\r", "").replaceAll(/^\[ .*$/gm, "");
  const result = Object.fromEntries(
    [...lines.matchAll(/^@@ (\S+): ([^@]*)$/gm)].map(([, name, text]) => [name, text!.trim()]),
  );
  assert.equal(result.read?.slice(0, 64), sha256(content), said);
  for (const name of ["mount", "mount-fixed", "copy", "names", "space", "unmount"])
    assert.equal(result[name], "", said);
  assert.equal(result.list, "link moved moved");
  assert.equal(result.many, "300");
  assert.equal(result.truncate, "one\nt");
  assert.equal(result.unlinked, "kept");
  assert.equal(result.fixed, "fixed");
  // Links are resolved in the guest: these lead to what it has there, which is nothing.
  for (const name of ["leak", "up"]) assert.match(result[name]!, /failed.*No such file/s);
  for (const name of ["device", "pipe"]) assert.match(result[name]!, /failed.*not permitted/s);
  for (const name of ["fixed-write", "fixed-remove", "fixed-make"]) assert.match(result[name]!, /failed.*Read-only/s);

  assert.equal(sha256(readFileSync(at("work/from-guest"))), sha256(content));
  assert.equal(statSync(at("work/from-guest")).mode & 0o7777, 0o640);
  assert.deepEqual(readdirSync(at("work/a")), ["link", "moved"]);
  assert.equal(readlinkSync(at("work/a/link")), "moved");
  assert.equal(readFileSync(at("secret"), "utf8"), "the host's own");
  assert.deepEqual(readdirSync(folder).toSorted(), ["fixed", "secret", "work"]);
  assert.equal(existsSync(at("work/open")), false);
});
