/**
 * One machine to another, with Linux's own stack for each, so that nothing but the cable is timed: `node bench/network/switch.ts
 * switch` has them on a named network of ours, `qemu` at the two ends of QEMU's `-netdev stream`. Each machine has a process of its
 * own, as it has with a guest in it. Prints what iperf3 took for a GiB, and how much of a processor's time the processes between
 * the two kernels took, which says more where others use the machine, too; both in seconds.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempDisposableSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { SwitchClient, switchStatus, writeNetwork } from "@lodge/network";
import { KernelGuest } from "../../packages/network/testing/kernel-guest.ts";
import { command, enterOwnNetwork, Host } from "../../packages/network/testing/namespaces.ts";

const GIB = 1 << 30;
const [job = "", numberText = ""] = process.argv.slice(2);

const address = (number: number) => `192.168.7.${number}`;

/** A machine on our network, in this process; says the number of a process in its namespace, and stays until its input ends. */
async function member(number: number): Promise<void> {
  const mac = `52:54:00:00:00:0${number}`;
  using port = await SwitchClient.join({ network: "bench", mac });
  await using guest = await KernelGuest.make(port, { mac });
  await guest.host.do("ip", "address", "add", `${address(number)}/24`, "dev", "eth0");
  console.log(guest.host.pid);
  await once(process.stdin.resume(), "end");
}

/** Runs iperf3 between two network namespaces, each by a process in it. */
async function transfer(from: number, to: number): Promise<number> {
  const inside = (pid: number, ...args: string[]) =>
    spawn("nsenter", ["-t", String(pid), "-n", "setpriv", "--pdeathsig", "KILL", ...args]);
  const server = inside(to, "iperf3", "-s", "-1", "--forceflush");
  const closed = once(server, "close");
  for await (const line of createInterface(server.stdout)) if (line.includes("listening")) break;
  server.stdout.resume();
  const client = inside(from, "iperf3", "-c", address(2), "-n", String(GIB), "-J");
  let told = "";
  for await (const part of client.stdout) told += part;
  await closed;
  const { sum_received: received } = JSON.parse(told).end;
  return (received.seconds / received.bytes) * GIB;
}

/** What processes have used of processors, in seconds: fields 14 and 15 of proc_pid_stat(5), in hundredths. */
function processorSeconds(pids: readonly number[]): number {
  const ticks = pids.flatMap((pid) =>
    readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]!.split(" ").slice(11, 13),
  );
  return ticks.reduce((sum, text) => sum + Number(text), 0) / 100;
}

async function timed(from: number, to: number, carriers: readonly number[]): Promise<Timed> {
  const before = processorSeconds(carriers);
  const seconds = await transfer(from, to);
  return { seconds, processor: processorSeconds(carriers) - before };
}

interface Timed {
  readonly seconds: number;
  readonly processor: number;
}

async function overSwitch(): Promise<Timed> {
  writeNetwork({ name: "bench", mode: "bare" });
  const machines: ChildProcess[] = [];
  try {
    const pids: number[] = [];
    for (const number of [1, 2]) {
      const child = spawn(process.execPath, [import.meta.filename, "member", String(number)], {
        stdio: ["pipe", "pipe", "inherit"],
      });
      machines.push(child);
      pids.push(Number(String((await once(child.stdout!, "data"))[0])));
    }
    const { pid } = (await switchStatus("bench"))!;
    return await timed(pids[0]!, pids[1]!, [pid, ...machines.map((child) => child.pid!)]);
  } finally {
    for (const child of machines) {
      child.stdin!.end();
      await once(child, "close");
    }
  }
}

async function overQemu(folder: string): Promise<Timed> {
  const path = join(folder, "stream");
  await using hosts = new AsyncDisposableStack();
  const qemus: ChildProcess[] = [];
  try {
    const pids: number[] = [];
    for (const number of [1, 2]) {
      const tap = `qemu${number}`;
      command("ip", "tuntap", "add", tap, "mode", "tap");
      const server = number === 1 ? "on" : "off";
      qemus.push(
        spawn(
          "qemu-system-x86_64",
          [
            ...["-M", "none", "-display", "none", "-netdev", `tap,id=t,ifname=${tap},script=no,downscript=no`],
            ...["-netdev", `stream,id=s,server=${server},addr.type=unix,addr.path=${path}`],
            ...["-netdev", "hubport,id=a,hubid=0,netdev=t", "-netdev", "hubport,id=b,hubid=0,netdev=s"],
          ],
          { stdio: ["ignore", "ignore", "inherit"] },
        ),
      );
      while (!existsSync(path)) await new Promise((resolve) => setTimeout(resolve, 10));
      const host = hosts.use(await Host.make());
      // It has the tap when the other end of it is up.
      command("ip", "link", "set", tap, "up");
      while (!command("ip", "link", "show", tap).includes("LOWER_UP")) {
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
      host.take(tap);
      await host.do("ip", "address", "add", `${address(number)}/24`, "dev", tap);
      await host.do("ip", "link", "set", tap, "up");
      pids.push(host.pid);
    }
    return await timed(
      pids[0]!,
      pids[1]!,
      qemus.map(({ pid }) => pid!),
    );
  } finally {
    for (const qemu of qemus) {
      qemu.kill("SIGKILL");
      await once(qemu, "close");
    }
  }
}

if (job === "member") await member(Number(numberText));
else {
  enterOwnNetwork();
  using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-bench-"));
  process.env.XDG_CONFIG_HOME = folder.path;
  process.env.XDG_RUNTIME_DIR = join(folder.path, "run");
  mkdirSync(process.env.XDG_RUNTIME_DIR, { mode: 0o700 });
  console.log(JSON.stringify(job === "qemu" ? await overQemu(folder.path) : await overSwitch()));
}
