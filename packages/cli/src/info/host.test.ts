/** What is found on pretended hosts. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { host, type Tree } from "../../testing/host.ts";
import { isolation } from "./isolation.ts";
import { Kernel } from "./kernel.ts";
import { memory } from "./memory.ts";
import { network } from "./network.ts";
import { processor } from "./processor.ts";

const cpuinfo = (model: string, vendor: string, flags: string) =>
  [0, 1]
    .map((n) => `processor\t: ${n}\nvendor_id\t: ${vendor}\nmodel name\t: ${model}\nflags\t\t: ${flags}\n`)
    .join("\n");

test("processors: model, vendor, count, extension", () => {
  const of = (text: string) => processor(host({ "/proc/cpuinfo": text }));
  assert.deepEqual(of(cpuinfo("AMD EPYC 7763", "AuthenticAMD", "fpu svm sse")), {
    model: "AMD EPYC 7763",
    vendor: "AuthenticAMD",
    cores: 2,
    virtualization: "svm",
    virtual: false,
  });
  const guest = of(cpuinfo("Xeon", "GenuineIntel", "fpu hypervisor vmx_like"));
  assert.deepEqual([guest.virtualization, guest.virtual], ["none", true]);
  assert.equal(of(cpuinfo("Xeon", "GenuineIntel", "vmx")).virtualization, "vmx");
  assert.equal(of("").model, "unknown");
});

test("memory: totals, huge pages by size, transparent ones, KSM", () => {
  const tree: Tree = {
    "/proc/meminfo": "MemTotal:       24684084 kB\nMemFree:        1 kB\nMemAvailable:   23783100 kB\n",
    "/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages": "2\n",
    "/sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages": "1\n",
    "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages": "64\n",
    "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages": "60\n",
    "/sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
    "/sys/kernel/mm/ksm/run": "1\n",
    "/sys/kernel/mm/ksm/pages_shared": "10\n",
    "/sys/kernel/mm/ksm/pages_sharing": "70\n",
  };
  assert.deepEqual(memory(host(tree)), {
    totalBytes: 24684084 * 1024,
    availableBytes: 23783100 * 1024,
    hugePages: [
      { sizeBytes: 2 ** 21, total: 64, free: 60 },
      { sizeBytes: 2 ** 30, total: 2, free: 1 },
    ],
    transparentHugePages: "madvise",
    ksm: { running: true, pagesShared: 10, pagesSharing: 70 },
  });
  const bare = memory(host({}));
  assert.deepEqual([bare.hugePages, bare.transparentHugePages, bare.ksm], [[], undefined, undefined]);
});

const V1 =
  "cgroup /sys/fs/cgroup/cpu cgroup rw,relatime,cpu,cpuacct 0 0\ncgroup /sys/fs/cgroup/systemd cgroup rw,name=systemd 0 0\n";
const CGROUPS = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t2\t1\t1\ncpuacct\t2\t1\t1\nmemory\t0\t1\t1\n";

test("control groups: unified, hybrid, old and none", () => {
  const of = (tree: Tree) => {
    const files = host({ "/proc/cgroups": CGROUPS, ...tree });
    return isolation(files, new Kernel(files)).cgroup;
  };
  assert.deepEqual(
    of({
      "/proc/mounts": "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n",
      "/sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory pids\n",
    }),
    {
      layout: "v2",
      path: "/sys/fs/cgroup",
      controllers: ["cpuset", "cpu", "io", "memory", "pids"],
      v1Controllers: [],
    },
  );
  assert.deepEqual(
    of({
      "/proc/mounts": `${V1}cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n`,
      "/sys/fs/cgroup/unified/cgroup.controllers": "\n",
    }),
    { layout: "hybrid", path: "/sys/fs/cgroup/unified", controllers: [], v1Controllers: ["cpu", "cpuacct"] },
  );
  assert.equal(of({ "/proc/mounts": V1 }).layout, "v1");
  assert.equal(of({ "/proc/mounts": "proc /proc proc rw 0 0\n" }).layout, "none");
  assert.equal(of({ "/proc/mounts": "none /my\\040groups cgroup2 rw 0 0\n" }).path, "/my groups");
});

test("SELinux: absent, off, unknown, not mounted, permissive, enforcing", () => {
  const of = (tree: Tree) => {
    const files = host(tree);
    return isolation(files, new Kernel(files)).selinux;
  };
  const mounted = { "/proc/mounts": "selinuxfs /sys/fs/selinux selinuxfs rw 0 0\n" };
  const filesystems = { "/proc/filesystems": "nodev\tsysfs\n\text4\n" };
  const config = (text: string) => ({ ...filesystems, "/proc/config.gz": gzipSync(text) });
  assert.equal(of(config("# CONFIG_SECURITY_SELINUX is not set\n")), "absent");
  assert.equal(of(config("CONFIG_SECURITY_SELINUX=y\n")), "off");
  assert.equal(of(filesystems), "unknown");
  assert.equal(of({ "/proc/filesystems": "nodev\tselinuxfs\n" }), "not mounted");
  assert.equal(of({ ...mounted, "/sys/fs/selinux/enforce": "0" }), "permissive");
  assert.equal(of({ ...mounted, "/sys/fs/selinux/enforce": "1" }), "enforcing");
});

const RELEASE = { "/proc/sys/kernel/osrelease": "6.1.0-18-amd64\n" };

test("features of a kernel: running, configured, loadable, absent, unknown", () => {
  const of = (tree: Tree) => new Kernel(host({ ...RELEASE, ...tree })).feature("bridge", "BRIDGE");
  assert.equal(of({ "/sys/module/bridge/version": "2.3" }), "present");
  assert.equal(of({ "/proc/config.gz": gzipSync("CONFIG_BRIDGE=y\n") }), "present");
  assert.equal(of({ "/boot/config-6.1.0-18-amd64": "CONFIG_FOO=y\nCONFIG_BRIDGE=y\n" }), "present");
  assert.equal(of({ "/lib/modules/6.1.0-18-amd64/config": "CONFIG_BRIDGE=y\n" }), "present");
  const modules = {
    "/lib/modules/6.1.0-18-amd64/modules.dep": "kernel/net/bridge/bridge.ko.xz: kernel/net/llc/llc.ko\n",
  };
  assert.equal(of(modules), "loadable");
  assert.equal(of({ "/boot/config-6.1.0-18-amd64": "CONFIG_BRIDGE=m\n", ...modules }), "loadable");
  assert.equal(of({ "/boot/config-6.1.0-18-amd64": "CONFIG_BRIDGE=m\n" }), "absent");
  assert.equal(of({ "/boot/config-6.1.0-18-amd64": "# CONFIG_BRIDGE is not set\n" }), "absent");
  assert.equal(of({}), "unknown");
});

test("userfaultfd and io_uring", () => {
  const of = (tree: Tree) => new Kernel(host({ ...RELEASE, ...tree })).info();
  const config = { "/proc/config.gz": gzipSync("CONFIG_IO_URING=y\n") };
  const sysctl = (io: string, faults: string) => ({
    "/proc/sys/kernel/io_uring_disabled": io,
    "/proc/sys/vm/unprivileged_userfaultfd": faults,
  });
  assert.deepEqual(of(sysctl("0\n", "1\n")), {
    release: "6.1.0-18-amd64",
    userfaultfd: "present",
    userfaultfdForAll: true,
    ioUring: "present",
  });
  assert.equal(of(sysctl("1", "0")).ioUring, "restricted");
  assert.equal(of(sysctl("2", "0")).ioUring, "disabled");
  assert.equal(of(sysctl("2", "0")).userfaultfdForAll, false);
  assert.deepEqual([of(config).ioUring, of(config).userfaultfd], ["present", "absent"]);
  assert.deepEqual([of({}).ioUring, of({}).userfaultfd], ["unknown", "unknown"]);
});

test("network devices: usable, refused, absent", () => {
  const of = (tree: Tree) => {
    const files = host({ ...RELEASE, ...tree });
    return network(files, new Kernel(files)).tun;
  };
  assert.deepEqual(of({ "/dev/net/tun": {}, "/sys/module/tun/x": "" }), {
    path: "/dev/net/tun",
    usable: true,
    refusal: undefined,
    module: "present",
    moduleName: "tun",
  });
  assert.equal(of({ "/dev/net/tun": { refusal: "EACCES" } }).refusal, "EACCES");
  assert.deepEqual(of({}), {
    path: "/dev/net/tun",
    usable: false,
    refusal: "ENOENT",
    module: "unknown",
    moduleName: "tun",
  });
});
