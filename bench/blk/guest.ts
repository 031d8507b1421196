/** What runs in the guest of the block benchmark: Debian's fio on the virtio disk, and reads of the PCI configuration. */

import { cpio } from "../../packages/vmm/src/images/cpio.ts";
import { hostProgram } from "../guest-program.ts";

/** A job of fio, and what one of its operations is. */
export const JOBS = {
  "4 KiB random reads, 32 at once": ["--rw=randread", "--bs=4k", "--iodepth=32"],
  "4 KiB random writes, 32 at once": ["--rw=randwrite", "--bs=4k", "--iodepth=32"],
  "4 KiB random reads, one by one": ["--rw=randread", "--bs=4k", "--iodepth=1"],
  "1 MiB sequential reads": ["--rw=read", "--bs=1m", "--iodepth=4"],
  "1 MiB sequential writes": ["--rw=write", "--bs=1m", "--iodepth=4"],
} as const;

/**
 * Reads of the disk's configuration space: 64 double words of either machine's, for each of which Linux writes one port and
 * reads another.
 */
const READS = 500;
export const EXITS = READS * 64 * 2;
const CONFIGURATION = "/sys/block/vda/device/../config";

const RAMP_SECONDS = 5;
const RUN_SECONDS = 5;

/** The names of {@link JOBS} are typed as numbers, so that nothing has to be quoted. */
function init(): string {
  const jobs = Object.values(JOBS).map(
    (options, index) => `job ${index} ${options.join(" ")}; echo done ${index} >/dev/console`,
  );
  return `#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /dev/shm
mount -t tmpfs shm /dev/shm
exec </dev/null >/dev/console 2>&1
modprobe virtio_pci
modprobe virtio_blk
export LD_LIBRARY_PATH=/fio
job() {
  number=$1
  shift
  echo "job $number: $(/fio/fio --name=job --filename=/dev/vda --direct=1 --ioengine=libaio --time_based \\
    --ramp_time=${RAMP_SECONDS} --runtime=${RUN_SECONDS} --output-format=terse --terse-version=3 "$@")"
}
${jobs.join("\n")}
files=$(for number in $(seq ${READS}); do echo ${CONFIGURATION}; done)
cat $files >/dev/null
echo ports begin
cat $files >/dev/null
echo ports end
poweroff -f
`;
}

/** An archive to append to the initramfs of the image tiny: fio of this host, with its libraries. */
export function fioArchive(): Buffer {
  return cpio([...hostProgram("fio"), { kind: "file", path: "init", mode: 0o755, data: Buffer.from(init()) }]);
}

/** fio's terse output, version 3: operations a second of what it read or wrote (fields 8 and 49, from 1). */
export function operationsPerSecond(terse: string): number {
  const fields = terse.split(";");
  return Number(fields[7]) + Number(fields[48]);
}
