/** Machines of the image tiny as their users have them. One machine serves all tests that leave it as it was. */

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import {
  mkdirSync,
  mkdtempDisposableSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { after, before, suite, test } from "node:test";
import { noGuest } from "../testing/tiny-guest.ts";
import type { LifeEvent } from "./life.ts";
import { Machine } from "./machine.ts";

suite("commands in a machine", { skip: noGuest }, () => {
  const place = mkdtempDisposableSync(join(tmpdir(), "lodge-vmm-"));
  const shared = randomBytes(600_000);
  let vm: Machine;
  before(async () => {
    for (const file of ["one", "two"]) writeFileSync(join(place.path, file), Buffer.alloc(1024 * 1024, file));
    const disks = [
      { file: join(place.path, "one"), serial: "first" },
      { file: join(place.path, "two"), readonly: true },
    ];
    for (const folder of ["shared", "fixed"]) mkdirSync(join(place.path, folder));
    writeFileSync(join(place.path, "shared", "from-host"), shared);
    writeFileSync(join(place.path, "fixed", "file"), "fixed\n");
    symlinkSync("../one", join(place.path, "shared", "leak"));
    const shares = [
      { folder: join(place.path, "shared"), tag: "shared" },
      { folder: join(place.path, "fixed"), tag: "fixed", readonly: true },
    ];
    const serialCards = [{ to: "file", path: join(place.path, "card") }, { to: "pty" }] as const;
    vm = await Machine.start({ accel: "soft", memory: "256M", append: "lodge.shell=0", disks, shares, serialCards });
  });
  after(async () => {
    await vm?.stop();
    place.remove();
  });

  test("output, errors and status are the command's", async () => {
    assert.deepEqual(await vm.exec(["sh", "-c", "echo out; echo err >&2; exit 7"]), {
      stdout: "out\n",
      stderr: "err\n",
      status: 7,
    });
    const { stdout, status } = await vm.exec(["uname", "-srm"]);
    assert.match(stdout, /^Linux 6\.\S+-cloud-amd64 x86_64\n$/);
    assert.equal(status, 0);
    assert.equal((await vm.exec(["no-such-program"])).status, 127);
  });

  test("serial cards lead to a file and to a terminal, both ways", async () => {
    const [file, terminal] = vm.serialCardPaths;
    assert.equal(file, join(place.path, "card"));
    await vm.exec(["sh", "-c", "echo into the file >/dev/ttyS1"]);
    assert.equal(readFileSync(file, "utf8"), "into the file\r\n");
    const head = spawn("head", ["-n", "1", terminal!], { stdio: ["ignore", "pipe", "inherit"] });
    const script = "exec 3<>/dev/ttyS2; stty -echo <&3; echo to the terminal >&3; read -r line <&3; echo $line";
    const said = vm.exec(["sh", "-c", script]);
    assert.equal(await text(head.stdout), "to the terminal\r\n");
    writeFileSync(terminal!, "from the terminal\n");
    assert.equal((await said).stdout, "from the terminal\n");
  });

  test("input is passed on to its end, whatever bytes it has", async () => {
    const input = Buffer.from(Array.from({ length: 200_000 }, (_, index) => (index * 7 + (index >> 8)) & 0xff));
    const sum = spawnSync("sha256sum", { input }).stdout.toString();
    assert.equal((await vm.exec(["sha256sum"], { input })).stdout, sum);
    // Without input there is none to wait for.
    assert.deepEqual(await vm.exec(["cat"]), { stdout: "", stderr: "", status: 0 });
    // What a command does not read is not the next one's.
    assert.equal((await vm.exec(["true"], { input })).status, 0);
    assert.equal((await vm.exec(["cat"], { input: "mine" })).stdout, "mine");
  });

  test("output larger than any buffer arrives whole, at its reader's pace", async () => {
    const guest = await vm.spawn(["sh", "-c", "seq 1 40000"]);
    guest.stdin.end();
    const chunks: Buffer[] = [];
    for await (const chunk of guest.stdout) {
      chunks.push(chunk);
      // Let everything else have its turn: the guest has to wait meanwhile.
      await new Promise((resolve) => setImmediate(resolve));
    }
    assert.equal(await guest.exited, 0);
    const expected = Array.from({ length: 40000 }, (_, index) => `${index + 1}\n`).join("");
    assert.equal(Buffer.concat(chunks).toString(), expected);
  });

  test("environment and directory are set", async () => {
    const { stdout } = await vm.exec(["sh", "-c", 'echo "$GREETING from $PWD"'], {
      cwd: "/tmp",
      env: { GREETING: "it's" },
    });
    assert.equal(stdout, "it's from /tmp\n");
  });

  test("signals reach the command and what it started", async () => {
    const script = "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 1000; done";
    const guest = await vm.spawn(["sh", "-c", script]);
    guest.stdin.end();
    guest.stderr.resume();
    const lines = createInterface({ input: guest.stdout })[Symbol.asyncIterator]();
    assert.equal((await lines.next()).value, "ready");
    guest.kill("SIGINT");
    assert.equal((await lines.next()).value, "caught");
    assert.equal(await guest.exited, 9);

    const controller = new AbortController();
    const aborted = vm.exec(["sleep", "100000"], { signal: controller.signal });
    await vm.exec(["true"]);
    controller.abort();
    await assert.rejects(aborted, { name: "AbortError" });
  });

  test("more commands than there are agents at once", async () => {
    const results = await Promise.all(
      Array.from({ length: 6 }, (_, index) =>
        vm.exec(["sh", "-c", `read line; echo "${index} $line"`], { input: `in ${index}` }),
      ),
    );
    assert.deepEqual(
      results.map(({ stdout }) => stdout),
      Array.from({ length: 6 }, (_, index) => `${index} in ${index}\n`),
    );
  });

  test("disks are read and written, and a read-only one is not", async () => {
    const { stdout } = await vm.exec([
      "sh",
      "-c",
      "cat /sys/block/vda/serial; echo; head -c 6 /dev/vda; cat /sys/block/vd?/ro",
    ]);
    assert.equal(stdout, "first\noneone0\n1\n");
    const write = "echo written | dd of=/dev/vda bs=512 seek=3 conv=notrunc,fsync; echo no >/dev/vdb";
    assert.notEqual((await vm.exec(["sh", "-c", write])).status, 0);
    assert.equal(readFileSync(join(place.path, "one")).toString("latin1", 3 * 512, 3 * 512 + 8), "written\n");
    assert.deepEqual(readFileSync(join(place.path, "two")), Buffer.alloc(1024 * 1024, "two"));
  });

  test("shared folders are mounted, and worked by the kernel's own driver", async () => {
    const guest = async (script: string) => {
      const { stdout, stderr, status } = await vm.exec(["sh", "-c", script], { cwd: "/mnt/shared" });
      assert.equal(status, 0, `${script}: ${stderr}`);
      return stdout;
    };
    assert.match(await guest("sha256sum <from-host"), new RegExp(createHash("sha256").update(shared).digest("hex")));
    await guest("cp from-host from-guest && chmod 640 from-guest && sync");
    assert.deepEqual(readFileSync(join(place.path, "shared", "from-guest")), shared);
    await guest(
      "mkdir -p a/b && echo one >a/b/file && mv a/b/file a/moved && ln a/moved a/second && ln -s moved a/link",
    );
    await guest("rm a/second && rmdir a/b && echo two >>a/link && touch -d @1000000000 a/moved");
    assert.equal(await guest("cat a/link; ls a"), "one\ntwo\nlink\nmoved\n");
    assert.equal(statSync(join(place.path, "shared", "a", "moved")).mtimeMs, 1e12);
    assert.equal(await guest("for n in $(seq 1 300); do : >many-$n; done; ls | grep -c many-"), "300\n");
    assert.equal(await guest("exec 3<>open; echo kept >&3; rm open; cat /proc/self/fd/3"), "kept\n");
    assert.equal(await guest("truncate -s 2 a/moved; cat a/moved"), "on");
    // What the host changes is seen.
    writeFileSync(join(place.path, "shared", "a", "moved"), "by the host");
    assert.equal(await guest("cat a/moved"), "by the host");
    assert.notEqual((await vm.exec(["cat", "/mnt/shared/leak"])).status, 0);
    assert.equal(await guest("cat /mnt/fixed/file"), "fixed\n");
    for (const script of [
      "echo x >/mnt/fixed/file",
      "rm /mnt/fixed/file",
      "mkdir /mnt/fixed/new",
      "mknod device c 1 3",
    ]) {
      assert.notEqual((await vm.exec(["sh", "-c", script], { cwd: "/mnt/shared" })).status, 0, script);
    }
    assert.deepEqual(readdirSync(join(place.path, "fixed")), ["file"]);
  });

  test("devices have their drivers", async () => {
    const { stdout } = await vm.exec([
      "sh",
      "-c",
      "cat /sys/class/misc/hw_random/rng_current; dd if=/dev/hwrng bs=64 count=1 | wc -c",
    ]);
    assert.match(stdout, /virtio_rng.*\n64\n/);
  });
});

test("a reboot begins the guest anew, with its agents; a panic ends it", { skip: noGuest }, async () => {
  await using vm = await Machine.start({ accel: "soft", memory: "128M", append: "lodge.shell=0", name: "phoenix" });
  const told: LifeEvent["event"][] = [];
  using _watch = vm.watch(({ event }) => told.push(event));
  const boots = async () => (await vm.exec(["cat", "/run/boots", "/proc/sys/kernel/hostname"])).stdout;
  await vm.exec(["sh", "-c", "echo first >/run/boots"]);
  assert.equal(await boots(), "first\nphoenix\n");

  await assert.rejects(vm.exec(["reboot", "-f"]), { code: "VMM_ENDED", message: "the guest was reset" });
  assert.equal(await boots(), "phoenix\n");
  const crash = vm.exec(["sh", "-c", "echo c >/proc/sysrq-trigger"]);
  await assert.rejects(crash, { code: "VMM_ENDED", message: /the guest's kernel panicked/ });
  assert.deepEqual(await vm.ended, { reason: "panicked" });
  assert.deepEqual(told, ["reset", "panicked", "ended"]);
});

test("a machine that ends takes its commands along", { skip: noGuest }, async () => {
  await using vm = await Machine.start({ accel: "soft", memory: "128M", append: "lodge.shell=0" });
  const guest = await vm.spawn(["sleep", "100000"]);
  guest.stdout.on("error", () => {});
  guest.stderr.on("error", () => {});
  const over = vm.exec(["poweroff", "-f"]);
  await assert.rejects(guest.exited, { code: "VMM_ENDED", message: /the guest switched it off/ });
  await assert.rejects(over, { code: "VMM_ENDED" });
  assert.deepEqual(await vm.ended, { reason: "power-off" });
  await assert.rejects(vm.exec(["true"]), { code: "VMM_ENDED" });
});

test("a machine that does not begin takes the files along that it has made, and no others", async () => {
  using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-machine-"));
  const at = (name: string) => join(folder.path, name);
  writeFileSync(at("kernel"), "no kernel");
  const fails = (serial: string, file: string) =>
    assert.rejects(
      async () => {
        const options = { serial: { to: "file", path: at(serial) }, memoryBacking: { file: at(file) } } as const;
        await using vm = await Machine.start({ accel: "soft", memory: "16M", kernel: at("kernel"), ...options });
        assert.fail(String(vm));
      },
      { code: "MACHINE_KERNEL" },
    );
  await fails("serial", "memory");
  assert.deepEqual(readdirSync(folder.path), ["kernel"]);
  for (const name of ["serial", "memory"]) writeFileSync(at(name), "");
  await fails("serial", "memory");
  assert.deepEqual(readdirSync(folder.path).toSorted(), ["kernel", "memory", "serial"]);
});

test("what cannot be is refused in words that say what to do", async () => {
  const refused: [Parameters<typeof Machine.start>[0], RegExp][] = [
    [{ image: "tinny" }, /there is no image "tinny"/],
    [{ memory: "lots" }, /memory "lots" is no size/],
    [{ memory: "1M" }, /at least 16M/],
    [{ memory: "2T" }, /memory 2T: a machine has at most 512G/],
    [{ cpus: 0 }, /0 vCPUs: a machine has 1 to/],
    [{ cpus: { count: 4, sockets: 3 } }, /4 vCPUs are not 3 sockets/],
    [{ kernel: "/no/such/kernel" }, /kernel \/no\/such\/kernel: there is no such file/],
    [{ kernel: "/dev" }, /kernel \/dev: it is no file/],
    [{ kernel: import.meta.filename }, /kernel|protocol/i],
    [{ image: "tiny", kernel: "x" }, /one of them/],
    [{ name: "two words" }, /name "two words": 1 to 63 letters/],
    [{ initrd: "x" }, /without a kernel/],
    [{ cpu: "i486" }, /i486/],
    [{ gdbPort: 70000 }, /gdb port 70000/],
    [{ disks: [{ file: "/no/such/disk" }] }, /\/no\/such\/disk/],
    [{ disks: [{ file: "a" }, { file: "./a", readonly: true }] }, /\.\/a is two of the machine's disks/],
    [{ qmp: "/no/such/folder/qmp" }, /QMP socket \/no\/such\/folder\/qmp: there is no such folder/],
    [{ qmp: `/tmp/${"x".repeat(103)}` }, /its path has more than 107 bytes/],
    [{ disks: [{ file: "a", serial: "x".repeat(21) }] }, /disk a: its serial/],
    [{ shares: [{ folder: "/no/such/folder", tag: "a" }] }, /folder \/no\/such\/folder cannot be shared/],
    [
      { shares: ["/tmp", "/usr"].map((folder) => ({ folder, tag: "1" })) },
      /the shares \/tmp and \/usr have one tag, 1/,
    ],
    [{ disks: ["a", "b"].map((file) => ({ file, serial: "1" })) }, /the disks a and b have one serial/],
  ];
  for (const [options, message] of refused) {
    await assert.rejects(async () => {
      await using vm = await Machine.start({ accel: "soft", ...options });
      assert.fail(String(vm));
    }, message);
  }
});
