/**
 * Debian's kernel on real KVM. Loading Lodge takes most of the time: TCG strips the sources of their types, once for each
 * thread, and no compiled code can be kept, because it is bound to the processor's features.
 */

import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { prepareImage } from "@lodge/vmm";
import { bootFunction } from "./guest-boot.ts";
import { labUnavailable, runInLab } from "./lab.ts";

const root = join(import.meta.dirname, "..");
const skip = (await labUnavailable()) ?? false;
/** The runner gives a file ten minutes. */
const timeoutMs = 9 * 60_000;

test("lodge run boots Debian's kernel with two vCPUs on KVM, and 64 vCPUs come up", { skip }, async (t) => {
  // There is no network inside.
  await prepareImage("tiny");
  const script = `
    "$NODE" --test packages/kvm/src/linux/many-vcpus.test.ts >&2 || exit 3
    ${bootFunction}
    boot --cpus 2 --memory 512M -- sh -c \\
      'uname -a; grep -c "^flags.* hypervisor" /proc/cpuinfo; exit 7'`;
  const start = performance.now();
  const { stdout, stderr, status } = await runInLab(["sh", "-c", script], { cwd: root, timeoutMs });
  t.diagnostic(`${((performance.now() - start) / 1000).toFixed(0)} s`);
  assert.match(stdout, /^Linux \S+ 6\.\S+-cloud-amd64 .* x86_64 GNU\/Linux\n2\n$/, stderr);
  assert.equal(status, 7, stderr);
});
