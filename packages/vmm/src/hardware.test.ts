/**
 * The machine's hardware as Debian's stock kernel finds it, with its own drivers. A boot takes long in software, so one looks
 * at everything: each line of the guest's report is `name: what it found`. (The cloud kernel has no 9P.)
 */

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { before, suite, test } from "node:test";
import { BlkDevice, ConsoleDevice, NetDevice, RngDevice, VsockDevice } from "@lodge/devices";
import { Pc, type PcEnd } from "@lodge/machine";
import type { PacketPort } from "@lodge/network";
import { noGuest } from "../testing/tiny-guest.ts";
import { cpio } from "./images/cpio.ts";
import { prepareImage } from "./images/store.ts";

const MIB = 2 ** 20;

/** The first program: loads the drivers of what there is, looks, and resets the machine. */
const LOOK = `#!/bin/busybox sh
mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys
for bus in pci virtio; do
  for device in /sys/bus/$bus/devices/*; do
    [ -e "$device/modalias" ] && read -r alias <"$device/modalias" && modprobe -q "$alias"
  done
done
modprobe button; modprobe af_packet
say() { echo "$1: $2" >/dev/ttyS0; }
say cpus "$(nproc)"
say packages "$(cat /sys/devices/system/cpu/cpu*/topology/physical_package_id | tr '\\n' ' ')"
say siblings "$(cat /sys/devices/system/cpu/cpu0/topology/core_cpus_list)"
say nodes "$(cat /sys/devices/system/node/node*/cpulist | tr '\\n' ' ')"
say distance "$(cat /sys/devices/system/node/node0/distance)"
say complaints "$(dmesg | grep -iE 'acpi[a-z :]*(error|warning|exception|bug)|firmware bug|pci.*(conflict|no space|failed)|call trace' | head -3)"
say ecam "$(dmesg | grep -c 'MMCONFIG at .* reserved in')"
for device in /sys/bus/virtio/devices/*; do say driver "$(cat $device/device) $(basename $(readlink $device/driver))"; done
say messages "$(grep -c 'PCI-MSI.*virtio' /proc/interrupts)"
say random "$(dd if=/dev/hwrng bs=32 count=1 2>/dev/null | wc -c)"
say disk "$(cat /sys/block/vda/size) $(cat /sys/block/vda/serial) $(md5sum </dev/vda)"
printf written >/dev/vda; sync; say flushed
echo "through the console" >/dev/hvc0
ip link set eth0 up; ip addr add 10.1.2.3/24 dev eth0
say mac "$(cat /sys/class/net/eth0/address)"
ping -c 1 -W 1 10.1.2.99 >/dev/null
say vsock "$([ -c /dev/vsock ] && echo there)"
say clock "$(hwclock -u -r | cut -c 1-24)"
say pvpanic "$([ -d /sys/bus/acpi/devices/QEMU0001:00 ] && echo there)"
say press-the-button
until [ "$(cut -c 1-8 /sys/firmware/acpi/interrupts/ff_pwr_btn)" -gt 0 ]; do sleep 0.1; done
say pressed
read -r line </dev/ttyS0
say typed "$line"
card=/sys/bus/pci/devices/0000:00:1f.0
exec 3<>/dev/$(basename $card/tty/*)
stty -echo <&3
say carddriver "$(basename $(readlink $card/driver))"
echo "by the card" >&3
read -r line <&3
say card "$line"
say cardmessages "$(grep 'PCI-MSI.*ttyS' /proc/interrupts | sed 's/^ *[0-9]*: *//')"
reboot -f
`;

const HARDWARE = cpio([{ kind: "file", path: "look", mode: 0o755, data: Buffer.from(LOOK) }]);

suite("Debian's kernel on the machine", { skip: noGuest }, () => {
  const report = new Map<string, string[]>();
  const disk = randomBytes(MIB);
  const digest = createHash("md5").update(disk).digest("hex");
  const frames: Uint8Array[] = [];
  let fromConsole = "";
  let fromCard = "";
  let log = "";
  let end: PcEnd;
  before(async () => {
    const image = await prepareImage("tiny");
    const port: PacketPort = {
      takesOffloads: false,
      givesOffloads: false,
      transmit: (frame) => frames.push(frame.slice()),
      connect: () => {},
    };
    let line = "";
    await using machine = await Pc.create({
      accelerator: "soft",
      memoryBytes: 256 * MIB,
      cpus: { count: 2, topology: { sockets: 2, cores: 1, threads: 1 } },
      nodes: [
        { cpus: [0], memoryBytes: 128 * MIB },
        { cpus: [1], memoryBytes: 128 * MIB, distances: [30, 10] },
      ],
      kernel: readFileSync(image.kernel),
      initrd: Buffer.concat([readFileSync(image.initrd), HARDWARE]),
      commandLine: "console=ttyS0 quiet panic=-1 rdinit=/look cryptomgr.notests",
      serial: [
        (bytes) => {
          log += Buffer.from(bytes).toString("latin1");
          line += Buffer.from(bytes).toString("latin1");
          const lines = line.split(/\r?\n/);
          line = lines.pop()!;
          for (const one of lines) heard(one);
        },
      ],
      serialCards: [
        (bytes) => {
          fromCard += Buffer.from(bytes).toString("latin1");
          if (bytes.includes(10)) machine.serialCards[0]!.write("to the card\n");
        },
      ],
      virtio: [
        new RngDevice(),
        new BlkDevice({ disk: memoryDisk(disk), serial: "hardware-test" }),
        new ConsoleDevice({
          ports: [
            {
              console: true,
              onData: (data) => {
                fromConsole += Buffer.from(data).toString();
                return true;
              },
            },
          ],
        }),
        new NetDevice({ port, mac: "52:54:00:12:34:56" }),
        new VsockDevice({ cid: 3, connect: () => undefined }),
      ],
    });
    const heard = (said: string) => {
      const [, name, value] = /^([a-z-]+): (.*)$/.exec(said) ?? [];
      if (name === undefined) return;
      report.set(name, [...(report.get(name) ?? []), value!.trim()]);
      if (name === "press-the-button") machine.pressPowerButton();
      if (name === "pressed") machine.serial[0]!.write("by the test\n");
    };
    machine.start();
    end = await machine.ended;
  });

  const said = (name: string) => report.get(name)?.join("\n");

  test("it finds its processors, their topology and nodes", () => {
    assert.equal(said("cpus"), "2", log);
    assert.equal(said("packages"), "0 1");
    assert.equal(said("siblings"), "0");
    assert.equal(said("nodes"), "0 1");
    assert.equal(said("distance"), "10 20");
  });

  test("it complains of nothing that ACPI or PCI tells", () => {
    assert.equal(said("complaints"), "");
    assert.equal(said("ecam"), "1");
    assert.equal(said("pvpanic"), "there");
  });

  test("each virtio device has Debian's driver, and interrupts by messages", () => {
    assert.deepEqual(report.get("driver"), [
      "0x0004 virtio_rng",
      "0x0002 virtio_blk",
      "0x0003 virtio_console",
      "0x0001 virtio_net",
      "0x0013 vmw_vsock_virtio_transport",
    ]);
    assert.ok(Number(said("messages")) >= 10, said("messages"));
  });

  test("the devices do what they are for", () => {
    assert.equal(said("random"), "32");
    assert.equal(said("disk"), `2048 hardware-test ${digest}  -`);
    assert.equal(disk.toString("latin1", 0, 7), "written");
    assert.match(fromConsole, /through the console/);
    assert.equal(said("mac"), "52:54:00:12:34:56");
    // Who has 10.1.2.99? Tell 10.1.2.3.
    const asks = frames.map((frame) => Buffer.from(frame)).filter((frame) => frame.readUInt16BE(12) === 0x0806);
    assert.ok(asks.some((frame) => frame.toString("hex", 28, 42) === "0a010203" + "000000000000" + "0a010263"));
    assert.equal(said("vsock"), "there");
  });

  test("a serial card has Debian's driver, and interrupts by a message", () => {
    assert.equal(said("carddriver"), "serial");
    assert.equal(fromCard, "by the card\r\n");
    assert.equal(said("card"), "to the card");
    const [first, second] = said("cardmessages")!.split(/ +/).map(Number);
    assert.ok(first! + second! > 0, said("cardmessages"));
  });

  test("the clock tells the host's time", () => {
    const told = Date.parse(`${said("clock")} UTC`);
    // Whenever the test runs, the boot took less than an hour.
    assert.ok(Date.now() - told < 3_600_000 && told <= Date.now(), said("clock"));
  });

  test("it hears the power button and the keyboard, and resets the machine", () => {
    assert.equal(said("typed"), "by the test");
    assert.deepEqual(end, { reason: "reset" });
  });
});

/** A disk in a buffer. */
function memoryDisk(content: Buffer): ConstructorParameters<typeof BlkDevice>[0]["disk"] {
  const move = (offset: number, pieces: readonly Uint8Array[], one: (piece: Uint8Array, at: number) => void) => {
    for (const piece of pieces) {
      one(piece, offset);
      offset += piece.length;
    }
    return Promise.resolve();
  };
  return {
    sizeBytes: content.length,
    readOnly: false,
    read: (offset, pieces) => move(offset, pieces, (piece, at) => piece.set(content.subarray(at, at + piece.length))),
    write: (offset, pieces) => move(offset, pieces, (piece, at) => content.set(piece, at)),
    flush: () => Promise.resolve(),
    discard: () => Promise.resolve(),
    writeZeroes: (offset, length) => Promise.resolve(void content.fill(0, offset, offset + length)),
    close: () => Promise.resolve(),
  };
}
