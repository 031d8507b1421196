/** QEMU's command line and its process. */

import { type ChildProcess, spawn } from "node:child_process";
import type { Socket } from "node:net";
import { findProgram } from "../packages/vmm/src/images/programs.ts";
import { channelArguments, channels } from "./channels.ts";
import { LabError } from "./errors.ts";
import type { LabImage } from "./image.ts";
import { missingTools } from "./tools.ts";

export type Size = { cpus: number; memoryMiB: number };

const kernelCommandLine = [
  "console=ttyS0",
  "quiet",
  "panic=-1",
  // The lab runs one command and is thrown away: what costs boot time or speed and protects against others is off.
  "mitigations=off",
  "nokaslr",
  "audit=0",
  "apparmor=0",
  // The emulator reads the host's own counter, which is as good as the host's clock.
  "tsc=reliable",
  "random.trust_cpu=on",
  "cryptomgr.notests",
  "rcupdate.rcu_expedited=1",
];

export function qemuArguments(image: LabImage, size: Size): string[] {
  return [
    ...["-M", "q35,smm=off,vmport=off,usb=off,graphics=off"],
    // One thread runs both processors in turn. With a thread each, QEMU 7.2 may keep a translation of code that the other
    // processor has meanwhile changed: creating and closing machines patches the kernel's scheduler (preempt notifiers), and
    // both processors then take a breakpoint for ever that is no longer there. See docs/lab.md.
    ...["-accel", "tcg,thread=single"],
    ...["-cpu", "max,+svm,-la57"],
    ...["-smp", `${size.cpus}`, "-m", `${size.memoryMiB}M`],
    ...["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio"],
    ...["-kernel", image.kernel, "-initrd", image.initramfs, "-append", kernelCommandLine.join(" ")],
    // First of the virtio devices, which makes its ports /dev/vport0p*.
    ...channelArguments(),
    ...["-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap"],
    ...["-device", "virtio-9p-pci,fsdev=host,mount_tag=host"],
  ];
}

export type Qemu = {
  process: ChildProcess;
  channel: Readonly<Record<(typeof channels)[number], Socket>>;
  /** The last of what the guest's kernel and QEMU itself said. */
  console(): string;
  /** Ends it at once (the machine is disposable). */
  kill(): void;
  /** Resolves when the process is gone, whatever the reason. */
  gone: Promise<string>;
};

const consoleBytes = 16 * 1024;

export function startQemu(image: LabImage, size: Size, onConsole?: (chunk: Buffer) => void): Qemu {
  const program = findProgram("qemu-system-x86_64");
  if (program === undefined) throw new LabError("UNAVAILABLE", missingTools(["qemu-system-x86_64"]) ?? "no QEMU");
  const args = qemuArguments(image, size);
  // setpriv makes the kernel end QEMU with us even when we are killed without a chance to do it. It replaces itself by
  // QEMU, so the process is the same.
  const setpriv = findProgram("setpriv");
  const stdio = ["ignore", "pipe", "pipe", ...channels.map(() => "pipe" as const)] as const;
  const child =
    setpriv === undefined
      ? spawn(program, args, { stdio: [...stdio] })
      : spawn(setpriv, ["--pdeathsig", "KILL", program, ...args], { stdio: [...stdio] });

  let said = Buffer.alloc(0);
  const listen = (chunk: Buffer) => {
    said = Buffer.concat([said, chunk]);
    if (said.length > 2 * consoleBytes) said = said.subarray(said.length - consoleBytes);
    onConsole?.(chunk);
  };
  child.stdout?.on("data", listen);
  child.stderr?.on("data", listen);

  const kill = () => void child.kill("SIGKILL");
  process.once("exit", kill);
  const gone = new Promise<string>((resolve) => {
    child.once("error", (error) => resolve(error.message));
    child.once("close", (code, signal) => resolve(signal === null ? `status ${code}` : `${signal}`));
  }).finally(() => process.removeListener("exit", kill));

  const sockets = child.stdio.slice(3) as Socket[];
  // A write to a QEMU that ended fails here and is reported as its end.
  for (const socket of sockets) socket.on("error", () => {});
  const [job, stdin, stdout, stderr] = sockets;
  if (job === undefined || stdin === undefined || stdout === undefined || stderr === undefined) {
    throw new LabError("BOOT", "QEMU did not start");
  }
  return {
    process: child,
    channel: { job, stdin, stdout, stderr },
    console: () => said.toString().replaceAll("\r", "").trim(),
    kill,
    gone,
  };
}
