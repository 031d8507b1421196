/** `lodge run` as a user meets it: a process with arguments, three streams and a status. */

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempDisposableSync, readFileSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { suite, test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { prepareImage } from "@lodge/vmm";
import { noImage } from "../../testing/image.ts";

const bin = join(import.meta.dirname, "../../bin/lodge.js");

const noCompiler = spawnSync("gcc", ["--version"]).error === undefined ? false : "gcc is not installed";

function start(...args: string[]) {
  return spawn(process.execPath, [bin, "run", "--accel", "soft", "--memory", "256M", ...args]);
}

test("a command has this process's streams, and this process its status", { skip: noImage }, async () => {
  const child = start("--", "sh", "-c", "cat; echo err >&2; exit 3");
  child.stdin.end("from here\n");
  const [stdout, stderr, [status]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close")]);
  assert.equal(stdout, "from here\n");
  // Where it took long there are lines of ours before.
  assert.match(stderr, /(^|\n)err\n$/);
  assert.equal(status, 3);
});

test("signals are the command's", { skip: noImage }, async () => {
  const child = start("--", "sh", "-c", "trap 'echo stopped; exit 5' TERM; echo ready; while :; do sleep 1000; done");
  child.stdin.end();
  child.stderr.resume();
  const output = text(child.stdout);
  await once(child.stdout, "readable");
  child.kill("SIGTERM");
  assert.deepEqual(await once(child, "close"), [5, null]);
  assert.equal(await output, "ready\nstopped\n");
});

const obedient = readFileSync(join(import.meta.dirname, "../../../vmm/testing/obedient.S"), "utf8");

/** Without a source the vmm's kernel of a few instructions, which obeys letters. */
function kernel(folder: string, input = obedient): string {
  const file = join(folder, "kernel");
  const args = ["-x", "assembler", "-", "-o", file, "-nostdlib", "-static", "-no-pie", "-Wl,-N,-Ttext=0x100000"];
  assert.equal(spawnSync("gcc", args, { input }).status, 0);
  return file;
}

/** Says `ok` on the debug console, and then its status at two addresses of isa-debug-exit. */
const TEST_KERNEL = `
.globl _start
_start: mov $'o', %al
        outb %al, $0xe9
        mov $'k', %al
        outb %al, $0xe9
        mov $0x10, %al
        mov $0x501, %dx
        outb %al, %dx
        mov $0x20, %al
        outb %al, $0xf4
        hlt
`;

suite("consoles and events", { skip: noCompiler }, () => {
  const folder = mkdtempDisposableSync(join(tmpdir(), "lodge-run-"));
  test.after(() => folder.remove());
  const at = (name: string) => join(folder.path, name);
  const begin = (...args: string[]) => start("--memory", "16M", "--kernel", kernel(folder.path), ...args);

  test("a machine with its console on a terminal tells what becomes of it, and is worked by QMP", async () => {
    const child = begin("--serial", "pty", "--json", "--name", "elsewhere", "--qmp", at("qmp"), "--pin", "0=0");
    const closed = once(child, "close");
    const stderr = text(child.stderr);
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const next = async () => JSON.parse((await lines.next()).value ?? "null");
    const { serial, ...started } = await next();
    assert.deepEqual(started, { event: "started", name: "elsewhere", accelerator: "soft", pid: child.pid });
    assert.match(serial, /^\/dev\/pts\/\d+$/);
    // Somebody's own program at that terminal.
    assert.equal(spawnSync("head", ["-n", "1", serial], { encoding: "utf8" }).stdout, "boot\n");
    writeFileSync(serial, "typed\n".replaceAll(/[^ted]/g, ""));
    assert.equal(spawnSync("head", ["-c", "3", serial], { encoding: "utf8" }).stdout, "ted");

    const client = connect(at("qmp"));
    client.write('{"execute":"qmp_capabilities"}{"execute":"stop"}{"execute":"cont"}');
    client.resume();
    assert.deepEqual([(await next()).event, (await next()).event], ["paused", "resumed"]);
    writeFileSync(serial, "r");
    assert.deepEqual(await next(), { event: "reset", byGuest: true });
    client.write('{"execute":"quit"}');
    assert.deepEqual(await next(), { event: "ended", end: { reason: "stopped" } });
    assert.deepEqual(await closed, [0, null]);
    assert.equal(await stderr, "");
  });

  test("the console in a file; a reset that is the end; a panic's status", async () => {
    const child = begin("--serial", `file:${at("log")}`, "--no-reboot");
    const closed = once(child, "close");
    child.stdout.resume();
    // Nobody can type on a file: the machine is ended from outside.
    while (!existsSync(at("log")) || readFileSync(at("log"), "utf8") !== "boot\n") await setImmediate();
    child.kill("SIGTERM");
    assert.deepEqual(await closed, [143, null]);

    for (const [letter, status, said] of [
      ["r", 0, ""],
      ["p", 3, "lodge: the guest's kernel panicked\n"],
    ] as const) {
      const other = begin("--no-reboot");
      other.stdin.write(letter);
      const [out, err, [code]] = await Promise.all([text(other.stdout), text(other.stderr), once(other, "close")]);
      assert.equal(out, "boot\n");
      assert.ok(err.endsWith(said), err);
      assert.equal(code, status);
    }
  });
});

test("a command's output as JSON", { skip: noImage }, () => {
  const args = ["--accel", "soft", "--memory", "256M", "--json", "--", "sh", "-c", "echo out; echo err >&2; exit 4"];
  const { stdout, status } = spawnSync(process.execPath, [bin, "run", ...args]);
  assert.deepEqual(JSON.parse(String(stdout)), { status: 4, stdout: "out\n", stderr: "err\n" });
  assert.equal(status, 4);
});

test("a guest that panics before a command can begin says so", { skip: noImage }, () => {
  const args = ["--accel", "soft", "--memory", "256M", "--net", "none", "--append", "rdinit=/none", "--", "true"];
  const { stdout, stderr, status } = spawnSync(process.execPath, [bin, "run", ...args], { encoding: "utf8" });
  assert.match(
    stderr,
    /^lodge: the machine has ended: .*, before the command began; .* Kernel panic .* Unable to mount root fs/m,
  );
  assert.equal(stdout, "");
  assert.equal(status, 1);
});

/** A module of the image's whose first instruction is none. */
async function brokenModule(): Promise<Buffer> {
  const { initrd } = await prepareImage("tiny");
  const archive = readFileSync(initrd);
  // cpio's "newc": a header of 110 characters, the name, the file, each filled up to four bytes (cpio(5)).
  const header = archive.lastIndexOf("070701", archive.indexOf("/nls_ascii.ko\0"));
  const field = (at: number) => Number.parseInt(archive.toString("latin1", header + at, header + at + 8), 16);
  const start = header + Math.ceil((110 + field(94)) / 4) * 4;
  const module = Buffer.from(archive.subarray(start, start + field(54)));
  // init_module: a call that the linker fills in, and `mov $..., %rsi`.
  const init = module.indexOf(Buffer.from("e80000000048c7c6", "hex"));
  assert.ok(init > 0, "init_module begins otherwise");
  module.write("0f0b", init + 5, "hex"); // ud2
  return module;
}

test("a kernel that oopses is the end of its command", { skip: noImage }, async () => {
  // Without `oops=panic` only insmod is killed, and the command has its end.
  const child = start("--net", "none", "--", "sh", "-c", "cat >/oops.ko; insmod /oops.ko; echo on");
  child.stdin.end(await brokenModule());
  const [stdout, stderr, [status]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close")]);
  assert.match(stderr, /^lodge: the machine has ended: the guest's kernel panicked/m);
  assert.equal(stdout, "");
  assert.equal(status, 1);
});

for (const [device, status] of [
  ["isa-debug-exit", 0x41],
  ["isa-debug-exit,iobase=0x501", 0x21],
] as const) {
  test(`a hypervisor's test kernel ends the process by ${device}`, { skip: noCompiler }, async () => {
    using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-run-"));
    const child = start("--memory", "16M", "--kernel", kernel(folder.path, TEST_KERNEL), "--device", device);
    child.stdin.end();
    const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close")]);
    assert.deepEqual([stdout, code], ["ok", status], stderr);
  });
}

for (const [args, message] of [
  [["--memory", "lots"], 'memory "lots" is no size: write 512M, 4G or a number of bytes'],
  [["--cpus", "2,cores=3"], "2 vCPUs are not 1 sockets of 3 cores of 1 threads"],
  [["--kernel", "/no/such"], "kernel /no/such: there is no such file"],
  [["--kernel", import.meta.filename], undefined],
  [["--disk", "/no/such"], undefined],
  [["--disk", "a,colour=red"], undefined],
  [["--accel", "fast"], undefined],
  [["--device", "floppy"], "--device floppy: there is isa-debug-exit, pc-testdev and pci-serial"],
  [["--device", "pci-serial"], "--device pci-serial: a serial card leads to file=F or to pty"],
  [["--device", "pci-serial,pty,file=/tmp/x"], undefined],
  [["--device", "pci-serial,file=/no/such/folder/log"], undefined],
  [["--json"], "--json has stdout, and so has the console: send that elsewhere with --serial"],
  [["--serial", "modem"], undefined],
  [["--serial", "file:/no/such/folder/log"], undefined],
  [["--name", "two words"], 'name "two words": 1 to 63 letters, digits and hyphens, as in a host name'],
  [["--memory", "64M,hugepages=1G"], undefined],
  [["--memory", "64M,hugepages=2M,file=/dev/shm/x"], undefined],
  [["--memory", "64M,colour=red"], undefined],
  [["--pin", "3=0"], "vCPU 3 is pinned: the machine's are 0 to 0"],
  [["--pin", "0=1023"], undefined],
  [["--pin", "0"], undefined],
  [["--numa", "64M"], undefined],
  [["--pmem", "/no/such/file"], undefined],
  [["--pmem", "file,share=maybe"], undefined],
  [["--pmem", "/proc/self/status"], undefined],
  [["--share", "/tmp"], undefined],
  [["--share", "/no/such/folder:tag"], undefined],
  [["--share", "/tmp:two words"], undefined],
  [["--numa", "64M,cpus=0"], undefined],
  [["--on-panic", "faint"], undefined],
  [["--qmp", "/no/such/folder/qmp"], undefined],
  [["tinny"], 'there is no image "tinny"; there is tiny, debian'],
] as const) {
  test(`lodge run ${args.join(" ").replace(/\/\S+\//, "")}: one line and status 2`, { skip: noImage }, () => {
    const { stdout, stderr, status } = spawnSync(process.execPath, [bin, "run", ...args], { encoding: "utf8" });
    assert.equal(stdout, "");
    assert.match(stderr, /^lodge: .+\n$/);
    if (message !== undefined) assert.equal(stderr, `lodge: ${message}\n`);
    assert.equal(status, 2);
  });
}
