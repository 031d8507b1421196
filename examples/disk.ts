/** A file as a machine's disk: the guest makes a file system on it, and a second machine finds what the first one left. */

import { mkdtempDisposableSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Machine } from "@lodge/vmm";

using directory = mkdtempDisposableSync(join(tmpdir(), "lodge-example-"));
const file = join(directory.path, "disk.img");
writeFileSync(file, "");
truncateSync(file, 64 * 1024 * 1024);

async function inMachine(script: string): Promise<string> {
  await using vm = await Machine.start({ image: "tiny", disks: [{ file, serial: "example" }] });
  const { stdout, stderr, status } = await vm.exec(["sh", "-ec", script]);
  if (status !== 0) throw new Error(`the guest says: ${stderr}`);
  return stdout;
}

await inMachine("mke2fs -q /dev/vda; mount /dev/vda /mnt; uname -r >/mnt/kernel; umount /mnt");
console.log("left on the disk:", (await inMachine("mount -o ro /dev/vda /mnt; cat /mnt/kernel")).trimEnd());
