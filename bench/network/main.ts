/**
 * A guest's network through user-mode NAT: the same kernel and initramfs in Lodge's software and in QEMU's TCG with
 * `-netdev user`, iperf3 in the guest and on this host. Each round boots both sides once. Without a guest: the stack alone.
 */

import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempDisposableSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { prepareImage } from "@lodge/vmm";
import { type Comparison, median, type Results } from "../harness.ts";
import { iperf3Archive, JOBS, milliseconds } from "./guest.ts";
import { stackAlone } from "./stack.ts";

const ROUNDS = 3;
const LIMIT = 1;
/** A round that takes longer has hung. */
const LONGEST_MS = 170_000;
const APPEND = "console=ttyS0 quiet";

/** Milliseconds, by what took them. */
type Measured = Map<string, number>;

export default async function run({ quick = false }: { quick?: boolean } = {}): Promise<Results> {
  const missing = ["iperf3", "qemu-system-x86_64"].filter((name) => spawnSync(name, ["--version"]).error !== undefined);
  if (missing.length > 0) throw new Error(`the benchmark network needs ${missing.join(" and ")}: apt-get install them`);
  const { kernel, initrd: tiny } = await prepareImage("tiny");
  using directory = mkdtempDisposableSync(join(tmpdir(), "lodge-network-"));
  const initrd = join(directory.path, "initrd");
  await using server = await listeningIperf3();
  writeFileSync(initrd, Buffer.concat([readFileSync(tiny), iperf3Archive(server.port)]));

  const lodge = join(import.meta.dirname, "../../packages/cli/bin/lodge.js");
  const ours = ["--accel", "soft", "--memory", "512M", "--kernel", kernel, "--initrd", initrd, "--append", APPEND];
  const bare = ["-M", "pc", "-accel", "tcg", "-m", "512", "-display", "none", "-serial", "stdio", "-no-reboot"];
  const card = ["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net"];
  const sides = {
    ours: () => measure(process.execPath, [lodge, "run", ...ours, "--net", "nat,loopback"]),
    theirs: () =>
      measure("qemu-system-x86_64", [...bare, ...card, "-kernel", kernel, "-initrd", initrd, "-append", APPEND]),
  };
  const figures = { ours: [] as Measured[], theirs: [] as Measured[] };
  const rounds = quick ? 1 : ROUNDS;
  for (let round = 0; round < rounds; round++) {
    for (const side of round % 2 === 0 ? (["ours", "theirs"] as const) : (["theirs", "ours"] as const)) {
      figures[side].push(await sides[side]());
    }
  }
  const comparisons = Object.entries(JOBS).map(([what, job]): Comparison => {
    const [a, b] = [figures.ours, figures.theirs].map((all) => median(all.map((one) => one.get(what)!)));
    const isOfCard = !("ping" in job) || job.ping !== "127.0.0.1";
    return { what, unit: "ms", ours: a!, theirs: b!, ratio: a! / b!, rounds, ...(isOfCard && { limit: LIMIT }) };
  });
  return { against: "QEMU TCG, user", comparisons, figures: await stackAlone() };
}

/** The iperf3 that the guests talk to, one after the other. It has no way to choose a port and to say which. */
async function listeningIperf3() {
  for (let port = 52_010; port < 52_110; port++) {
    const child = spawn("setpriv", [
      ...["--pdeathsig", "KILL", "iperf3", "--server", "--bind", "127.0.0.1", "--port", String(port), "--forceflush"],
    ]);
    const closed = once(child, "close");
    for await (const line of createInterface({ input: child.stdout })) {
      if (!line.includes("listening")) continue;
      child.stdout.resume();
      child.stderr.resume();
      const stop = async () => {
        child.kill("SIGKILL");
        await closed;
      };
      return { port, [Symbol.asyncDispose]: stop };
    }
    await closed;
  }
  throw new Error("iperf3 found no port to listen on: 52010 to 52109 are taken");
}

/** Boots once and hears what the guest says of its jobs. */
async function measure(program: string, args: readonly string[]): Promise<Measured> {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
  const timer = setTimeout(() => child.kill("SIGKILL"), LONGEST_MS);
  child.stderr.resume();
  const measured: Measured = new Map();
  const names = Object.keys(JOBS);
  let said = "";
  for await (const line of createInterface({ input: child.stdout })) {
    said = `${said}\n${line}`.slice(-500);
    const job = /^job (\d+): (.*)$/.exec(line);
    const found = job === null ? undefined : milliseconds(job[2]!);
    if (found !== undefined) measured.set(names[Number(job![1])]!, found);
  }
  clearTimeout(timer);
  if (measured.size !== names.length) {
    throw new Error(`${program} came to ${measured.size} of ${names.length} figures; its last words: ${said}`);
  }
  return measured;
}
