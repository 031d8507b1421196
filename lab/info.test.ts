/** `lodge info` on a host whose every answer is known: the lab. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { labUnavailable, runInLab } from "./lab.ts";

const root = join(import.meta.dirname, "..");

/** The report, then what the kernel's own tools say. What the report calls loadable is loaded. */
const script = `
  set -e
  node packages/cli/bin/lodge.js info --json >/run/report
  modprobe -a tun vhost_net bridge nf_tables
  printf '{"report": %s, "cores": %s, "release": "%s", "totalKib": %s, "nested": "%s"}' \\
    "$(cat /run/report)" "$(nproc)" "$(uname -r)" \\
    "$(sed -n 's/MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo)" \\
    "$(cat /sys/module/kvm_amd/parameters/nested)"
  test -c /dev/net/tun -a -c /dev/vhost-net
`;

test("lodge info is right in the lab", { skip: (await labUnavailable()) ?? false }, async () => {
  const { stdout, stderr, status } = await runInLab(["bash", "-c", script], { cwd: root, timeoutMs: 8 * 60_000 });
  assert.equal(status, 0, stderr);
  const { report, ...said } = JSON.parse(stdout);

  const { capabilities, ringZeroNs, ...kvm } = report.kvm;
  assert.deepEqual(kvm, {
    present: true,
    device: "/dev/kvm",
    apiVersion: 12,
    module: "kvm_amd",
    guestKernels: "executed",
    speedError: null,
    nested: said.nested === "1",
    memoryEncryption: [],
  });
  assert.ok(ringZeroNs > 0 && report.software.ringZeroNs > 0);
  assert.equal(capabilities.NR_VCPUS, said.cores);
  assert.ok(capabilities.NESTED_STATE > 0 && capabilities.IRQCHIP > 0 && capabilities.TSC_CONTROL === 0);
  assert.equal(report.accelerator.auto, "kvm");
  assert.deepEqual(
    { ...report.processor, model: report.processor.model.startsWith("QEMU TCG") },
    { model: true, vendor: "AuthenticAMD", cores: said.cores, virtualization: "svm", virtual: true },
  );
  assert.equal(report.memory.totalBytes, said.totalKib * 1024);
  assert.equal(report.memory.transparentHugePages, "always");
  assert.equal(report.memory.ksm.running, false);
  assert.deepEqual(
    report.memory.hugePages.map(({ sizeBytes }: { sizeBytes: number }) => sizeBytes),
    [2 ** 21, 2 ** 30],
  );
  assert.equal(report.isolation.cgroup.layout, "v2");
  assert.ok(report.isolation.cgroup.controllers.includes("memory"));
  assert.equal(report.isolation.selinux, "not mounted");
  assert.equal(report.kernel.release, said.release);
  assert.equal(report.kernel.userfaultfd, "present");
  assert.equal(report.kernel.ioUring, "present");

  const { tun, vhostNet, bridge, nftables } = report.network;
  assert.deepEqual([tun.usable, vhostNet.usable], [false, false]);
  assert.deepEqual([tun.module, vhostNet.module, bridge, nftables], Array(4).fill("loadable"));
});
