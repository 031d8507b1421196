/**
 * A guest's network through user-mode NAT: the same kernel and initramfs in Lodge's software and in QEMU's TCG with
 * `-netdev user`, and this process as the world. The guest loads a page, sends as much, and pings its gateway; what is timed
 * is seen from outside, so both sides have the same clock. Without a guest: the stack alone.
 */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempDisposableSync, readFileSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { prepareImage } from "@lodge/vmm";
import { cpio } from "../../packages/vmm/src/images/cpio.ts";
import { compare, type Results } from "../harness.ts";
import { stackAlone } from "./stack.ts";

const ROUNDS = 3;
const MIB = 1 << 20;
const TRANSFER = 64 * MIB;
const LONGEST_MS = 170_000;
const APPEND = "console=ttyS0 quiet";
const LIMIT = 1;

/** What the guest does; the numbers are its host's ports. */
const init = (down: number, up: number) => `#!/bin/busybox sh
mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys; mkdir -p /run/lodge
for bus in pci virtio; do for device in /sys/bus/$bus/devices/*; do
  [ -e "$device/modalias" ] && read -r alias <"$device/modalias" && modprobe -q "$alias"
done; done
ip link set eth0 up
udhcpc -q -f -n -i eth0 -s /lib/lodge/dhcp >/dev/null 2>&1
nc 10.0.2.2 ${down} </dev/null >/dev/null
dd if=/dev/zero bs=64k count=${TRANSFER / 65536} 2>/dev/null | nc 10.0.2.2 ${up} >/dev/null
ping -q -c 20 -i 0.1 10.0.2.2 >/dev/ttyS0
echo the end >/dev/ttyS0
poweroff -f
`;

interface Measured {
  readonly downSeconds: number;
  readonly upSeconds: number;
  readonly pingMs: number;
}

type Start = (initrd: string, kernel: string) => [string, string[]];

const lodge: Start = (initrd, kernel) => [
  process.execPath,
  [
    ...[join(import.meta.dirname, "../../packages/cli/bin/lodge.js"), "run", "--accel", "soft", "--memory", "512M"],
    ...["--net", "nat,loopback", "--kernel", kernel, "--initrd", initrd, "--append", APPEND],
  ],
];
const qemu: Start = (initrd, kernel) => [
  "qemu-system-x86_64",
  [
    ...["-M", "pc", "-accel", "tcg", "-m", "512", "-display", "none", "-serial", "stdio", "-no-reboot"],
    ...["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net"],
    ...["-kernel", kernel, "-initrd", initrd, "-append", APPEND],
  ],
];

/** Serves on a port of its own; tells how long each transfer took, from the first byte that could go to the last. */
async function timed(serve: (socket: Socket, done: () => void) => void) {
  const { promise, resolve } = Promise.withResolvers<number>();
  const server = createServer((socket) => {
    const start = performance.now();
    socket.on("error", () => {});
    serve(socket, () => resolve((performance.now() - start) / 1000));
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  return { port: (server.address() as AddressInfo).port, seconds: promise, close: () => server.close() };
}

async function measure(start: Start): Promise<Measured> {
  const { kernel, initrd: whole } = await prepareImage("tiny");
  using directory = mkdtempDisposableSync(join(tmpdir(), "lodge-network-"));
  const page = Buffer.alloc(TRANSFER, "0123456789abcdef");
  const down = await timed((socket, done) => socket.end(page).once("close", done).resume());
  const up = await timed((socket, done) => socket.once("end", done).resume());
  const initrd = join(directory.path, "initrd");
  // A later archive of an initramfs replaces files of those before it.
  const ours = cpio([{ kind: "file", path: "init", mode: 0o755, data: Buffer.from(init(down.port, up.port)) }]);
  writeFileSync(initrd, Buffer.concat([readFileSync(whole), ours]));
  const child = spawn(...start(initrd, kernel), { stdio: ["ignore", "pipe", "pipe"] });
  const timer = setTimeout(() => child.kill("SIGKILL"), LONGEST_MS);
  let said = "";
  child.stdout.on("data", (bytes: Buffer) => {
    said += bytes;
    if (said.includes("the end")) child.kill("SIGKILL");
  });
  child.stderr.resume();
  await once(child, "close");
  clearTimeout(timer);
  down.close();
  up.close();
  // busybox: round-trip min/avg/max = 0.612/0.735/1.102 ms
  const pingMs = Number(/min\/avg\/max = [\d.]+\/([\d.]+)\//.exec(said)?.[1]);
  if (Number.isNaN(pingMs)) throw new Error(`${child.spawnfile} said no round trip: ${said.slice(-500)}`);
  return { downSeconds: await down.seconds, upSeconds: await up.seconds, pingMs };
}

export default async function run({ quick = false }: { quick?: boolean } = {}): Promise<Results> {
  const rounds = quick ? 1 : ROUNDS;
  // One boot gives all three figures; they are asked for one by one.
  const seen: Record<"ours" | "theirs", Measured[]> = { ours: [], theirs: [] };
  const figure = (side: "ours" | "theirs", start: Start, read: (one: Measured) => number) => {
    let round = 0;
    return async () => {
      const index = round++;
      seen[side][index] ??= await measure(start);
      return read(seen[side][index]);
    };
  };
  const both = (what: string, unit: string, read: (one: Measured) => number) =>
    compare({
      what,
      unit,
      rounds,
      limit: LIMIT,
      ours: figure("ours", lodge, read),
      theirs: figure("theirs", qemu, read),
    });
  const comparisons = [
    await both("64 MiB to the guest", "s", (one) => one.downSeconds),
    await both("64 MiB from the guest", "s", (one) => one.upSeconds),
    await both("ping of the gateway", "ms", (one) => one.pingMs),
  ];
  return { against: "QEMU TCG, user", comparisons, figures: await stackAlone() };
}
