/** Boots: every one costs seconds, so one looks at many things. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { labUnavailable, runInLab } from "./lab.ts";
import { nasty } from "./nasty.ts";

const skip = (await labUnavailable()) ?? false;
const main = join(import.meta.dirname, "main.ts");

/** QEMU processes below a process. */
function machinesOf(parent: number): number[] {
  const found: number[] = [];
  for (const entry of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const stat = readFileSync(`/proc/${entry}/stat`, "utf8");
      const [, ppid] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      if (Number(ppid) === parent && stat.includes("(qemu-system")) found.push(Number(entry));
    } catch {
      // The process ended while we looked.
    }
  }
  return found;
}

test("a command runs in the lab as it would here, and nothing is left of it", { skip }, async () => {
  const secret = `/var/tmp/lodge-lab-${randomBytes(8).toString("hex")}`;
  const program = `
    const { createHash } = require("node:crypto");
    const { readFileSync, writeFileSync } = require("node:fs");
    const { execFileSync } = require("node:child_process");
    const koffi = require("koffi");
    const libc = koffi.load("libc.so.6");
    const open = libc.func("int open(const char *path, int flags)");
    const ioctl = libc.func("int ioctl(int fd, ulong request, int argument)");
    const input = readFileSync(0);
    writeFileSync(${JSON.stringify(secret)}, "x");
    writeFileSync(${JSON.stringify(join(import.meta.dirname, "written-in-lab"))}, "x");
    writeFileSync("/dev/stderr", "apart");
    process.stdout.write(JSON.stringify({
      argv: process.argv.slice(1),
      cwd: process.cwd(),
      env: [process.env.LODGE_LAB, process.env.LODGE_WORD, process.env.NODE, process.env.NODE_TEST_CONTEXT ?? null],
      input: [input.length, createHash("sha256").update(input).digest("hex")],
      api: ioctl(open("/dev/kvm", 2), 0xae00, 0),
      modules: readFileSync("/proc/modules", "utf8").split("\\n").map((line) => line.split(" ")[0]),
      hostname: require("node:os").hostname(),
      now: Date.now(),
      assembler: execFileSync("as", ["--version"]).toString().slice(0, 13),
    }) + "\\n" + "x".repeat(300000));
    process.exitCode = 7;
  `;
  const input = randomBytes(1024 * 1024);
  const { stdout, stderr, status } = await runInLab(["node", "-e", program, "--", ...nasty], {
    stdin: input,
    cwd: import.meta.dirname,
    env: { LODGE_WORD: "it's $me\n" },
    timeoutMs: 120_000,
  });
  const now = Date.now();
  assert.equal(stderr, "apart");
  assert.equal(status, 7);
  const [line = "", tail = ""] = stdout.split("\n");
  assert.equal(tail.length, 300_000);
  const seen = JSON.parse(line);
  assert.deepEqual(seen.argv, nasty);
  assert.equal(seen.cwd, import.meta.dirname);
  assert.deepEqual(seen.env, ["1", "it's $me\n", process.execPath, null]);
  assert.deepEqual(seen.input, [input.length, createHash("sha256").update(input).digest("hex")]);
  assert.equal(seen.api, 12);
  assert.ok(seen.modules.includes("kvm_amd"));
  assert.equal(seen.hostname, "lab");
  assert.ok(Math.abs(now - seen.now) < 5000, `clock differs by ${now - seen.now} ms`);
  assert.equal(seen.assembler, "GNU assembler");
  assert.ok(!existsSync(secret) && !existsSync(join(import.meta.dirname, "written-in-lab")));
  assert.deepEqual(machinesOf(process.pid), []);
});

test("time that is up ends the command, and what it left running does not hold it up", { skip }, async () => {
  const late = runInLab(["sh", "-c", "echo begun; sleep 1000"], { timeoutMs: 8_000 });
  const early = runInLab(["sh", "-c", "sleep 1000 & kill -TERM $$"], { timeoutMs: 60_000 });
  await assert.rejects(late, { code: "TIMEOUT", message: /within 8 s/ });
  assert.equal((await early).status, 128 + 15);
  assert.deepEqual(machinesOf(process.pid), []);
});

test("a signal to the runner ends the machine, also one that it cannot catch", { skip }, async () => {
  await Promise.all([endedBy("SIGTERM", 128 + 15), endedBy("SIGKILL", null)]);
});

async function endedBy(signal: NodeJS.Signals, expected: number | null): Promise<void> {
  const runner = spawn(process.execPath, [main, "sh", "-c", "echo begun; sleep 1000"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(runner.stdout, "data");
  const machines = machinesOf(runner.pid!);
  assert.equal(machines.length, 1);
  runner.kill(signal);
  const [status] = await once(runner, "exit");
  assert.equal(status, expected);
  // After SIGKILL it is the kernel that ends QEMU, whose new parent is init.
  for (const machine of machines) await processEnd(machine);
}

/** Waits in the kernel, through tail, because a process that is not our child sends us nothing. */
async function processEnd(pid: number): Promise<void> {
  await once(spawn("tail", ["-f", `--pid=${pid}`, "/dev/null"], { stdio: "ignore", timeout: 10_000 }), "exit");
  assert.ok(!existsSync(`/proc/${pid}`) || readFileSync(`/proc/${pid}/stat`, "utf8").includes(") Z "));
}

test("a lab that cannot be built says why and what to do", { skip }, async (t) => {
  const directory = mkdtempSync(join(tmpdir(), "lodge-lab-test-"));
  t.after(() => rmSync(directory, { recursive: true }));
  const noSources = join(directory, "apt.conf");
  writeFileSync(
    noSources,
    'Dir::Etc::sourcelist "/dev/null"; Dir::Etc::sourceparts "/dev/null"; Dir::State "/nonexistent";',
  );
  const runner = spawn(process.execPath, [main, "true"], {
    env: { ...process.env, XDG_CACHE_HOME: directory, APT_CONFIG: noSources },
    stdio: ["ignore", "ignore", "pipe"],
  });
  const said: Buffer[] = [];
  runner.stderr.on("data", (chunk: Buffer) => said.push(chunk));
  const [status] = await once(runner, "close");
  assert.equal(status, 125);
  assert.match(
    Buffer.concat(said).toString(),
    /^lab: the lab's kernel: apt cannot fetch linux-image-amd64\*; .* needs Debian's package sources .* apt-cache depends failed/,
  );
  assert.deepEqual(readdirSync(join(directory, "lodge", "lab")), []);
  await assert.rejects(runInLab(["true"], { cwd: "/nonexistent" }), { code: "USAGE", message: /not a directory/ });
});
