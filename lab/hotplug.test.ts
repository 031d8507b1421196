/** What changes a machine on real KVM while it runs: disks and cards that come and go, and a debugger that looks at it. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { prepareImage } from "@lodge/vmm";
import { findProgram } from "../packages/vmm/src/images/programs.ts";
import { bootFunction } from "./guest-boot.ts";
import type { Seen } from "./hotplug-inside.ts";
import { labUnavailable, runInLab } from "./lab.ts";

const root = join(import.meta.dirname, "..");
const inside = join(import.meta.dirname, "hotplug-inside.ts");
const skip = findProgram("gdb") === undefined ? "gdb is not installed" : ((await labUnavailable()) ?? false);

test("a disk, a network card and gdb come and go on kvm-amd", { skip }, async () => {
  // There is no network inside.
  await prepareImage("tiny");
  const command = ["sh", "-c", `${bootFunction}\nattempt "$NODE" "$1"`, "sh", inside];
  const { stdout, stderr, status } = await runInLab(command, { cwd: root, timeoutMs: 9 * 60_000 });
  assert.equal(status, 0, stderr);
  const { debugger: said, ...seen }: Seen = JSON.parse(stdout.trim().split("\n").at(-1)!);
  assert.deepEqual(seen, {
    before: "lo\n",
    disk: "late\nfrom the host",
    card: "52:54:00:00:00:77\n",
    after: "lo\n",
    written: "from the guest",
  });
  // Both vCPUs, stopped in the kernel or in a program, and an instruction read by the vCPU's own page tables.
  assert.match(said, /^\* 1 .*\n {2}2 /m);
  assert.match(said, /^=> 0x[0-9a-f]+:\t[a-z]/m);
});
