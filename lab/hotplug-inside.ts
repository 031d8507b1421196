/** Run in the lab by hotplug.test.ts, which judges what is printed. */

import { execFile } from "node:child_process";
import { mkdtempDisposableSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { Machine } from "@lodge/vmm";

export type Seen = Record<"before" | "disk" | "card" | "after" | "written" | "debugger", string>;

const GDB_PORT = 1234;

using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-hotplug-"));
const file = join(folder.path, "disk");
writeFileSync(file, "from the host");
truncateSync(file, 1 << 20);

await using vm = await Machine.start({
  accel: "kvm",
  cpus: 2,
  memory: "256M",
  append: "nopv",
  networks: [],
  gdbPort: GDB_PORT,
});

async function sh(script: string): Promise<string> {
  const { stdout, stderr, status } = await vm.exec(["sh", "-ec", script]);
  if (status !== 0) throw new Error(`${script}: ${stderr}`);
  return stdout;
}

const present = () => sh("ls /sys/class/net; ls /sys/block");
const before = await present();
const disk = await vm.plugDisk({ file, serial: "late" });
await sh("until [ -b /dev/vda ]; do :; done");
const onDisk = await sh("cat /sys/block/vda/serial; echo; head -c 13 /dev/vda");
await sh("printf 'from the guest' | dd of=/dev/vda conv=notrunc,fsync 2>/dev/null");
const card = await vm.plugNetwork({ mode: "nat", mac: "52:54:00:00:00:77" });
await sh("until [ -e /sys/class/net/eth0 ]; do :; done");
const address = await sh("cat /sys/class/net/eth0/address");

const commands = ["set pagination off", `target remote 127.0.0.1:${GDB_PORT}`, "info threads", "x/2i $pc", "detach"];
const gdb = await promisify(execFile)("gdb", ["-nx", "-batch", ...commands.flatMap((command) => ["-ex", command])]);
// It goes on when the debugger has gone.
await Promise.all([vm.unplug(disk), vm.unplug(card)]);
const seen: Seen = {
  before,
  disk: onDisk,
  card: address,
  after: await present(),
  written: readFileSync(file, "latin1").slice(0, 14),
  debugger: gdb.stdout,
};
console.log(JSON.stringify(seen));
