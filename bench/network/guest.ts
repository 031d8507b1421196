/** What runs in the guest of the network's benchmark: Debian's iperf3 and busybox's ping. */

import { cpio } from "../../packages/vmm/src/images/cpio.ts";
import { hostProgram } from "../guest-program.ts";

/** What is measured: a transfer by iperf3's options, or a ping by its address. The first transfers find nothing compiled. */
export const JOBS = {
  "1 MiB to the guest, of its first 32": { iperf3: "--reverse --bytes 32M" },
  "1 MiB from the guest, of its first 32": { iperf3: "--bytes 32M" },
  "1 MiB to the guest": { iperf3: "--reverse --time 5 --omit 1" },
  "1 MiB from the guest": { iperf3: "--time 5 --omit 1" },
  "ping of the gateway": { ping: "10.0.2.2" },
  "ping of the guest itself, which no card sees": { ping: "127.0.0.1" },
} as const;

const init = (port: number) => `#!/bin/busybox sh
mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys; mkdir -p /run/lodge /tmp
for bus in pci virtio; do for device in /sys/bus/$bus/devices/*; do
  [ -e "$device/modalias" ] && read -r alias <"$device/modalias" && modprobe -q "$alias"
done; done
ip link set lo up; ip link set eth0 up
udhcpc -q -f -n -i eth0 -s /lib/lodge/dhcp >/dev/null 2>&1
exec </dev/null >/dev/ttyS0 2>&1
export LD_LIBRARY_PATH=/iperf3
${Object.values(JOBS)
  .map((job) =>
    "ping" in job
      ? `ping -q -c 20 -i 0.1 ${job.ping}`
      : `/iperf3/iperf3 --client 10.0.2.2 --port ${port} --interval 0 --format k ${job.iperf3}`,
  )
  .map((line, index) => `echo "job ${index}: $(${line} | tr '\\n' ' ')"`)
  .join("\n")}
echo the end
poweroff -f
`;

/** An archive to append to the initramfs of the image tiny; the iperf3 of the host listens on `port` of its loopback. */
export function iperf3Archive(port: number): Buffer {
  return cpio([...hostProgram("iperf3"), { kind: "file", path: "init", mode: 0o755, data: Buffer.from(init(port)) }]);
}

/** Milliseconds: for a MiB of a transfer, as its receiver saw it, or for a round trip. Undefined when it came to nothing. */
export function milliseconds(said: string): number | undefined {
  // iperf3: 0.00-3.05 sec 64.0 MBytes 176000 Kbits/sec receiver; busybox: round-trip min/avg/max = 0.612/0.735/1.102 ms
  const kbits = /([\d.]+) Kbits\/sec +receiver/.exec(said)?.[1];
  if (kbits !== undefined) return (8 * 2 ** 20) / Number(kbits);
  const average = /min\/avg\/max = [\d.]+\/([\d.]+)\//.exec(said)?.[1];
  return average === undefined ? undefined : Number(average);
}
