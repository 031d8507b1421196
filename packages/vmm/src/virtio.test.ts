/**
 * The virtio devices as Debian's own drivers work them, all in one guest. Not 9p: the cloud kernel of the image tiny has no
 * driver for it.
 */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { createConnection, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, suite, test } from "node:test";
import { BalloonDevice, BlkDevice, Feature, NetDevice, RngDevice, UnixSockets, VsockDevice } from "@lodge/devices";
import { openImage } from "@lodge/storage";
import { baseAllocation, NbdServer } from "@lodge/storage/nbd";
import { EchoPort } from "../testing/echo-port.ts";
import { noGuest, TinyGuest } from "../testing/tiny-guest.ts";
import { openPmem } from "./persistent-memory.ts";

const MIB = 1 << 20;
const noCompiler = spawnSync("gcc", ["--version"]).error === undefined ? false : "gcc is not installed";
const noChecker = spawnSync("e2fsck", ["-V"]).error === undefined ? false : "e2fsck is not installed";

function buildPeer(path: string): Uint8Array {
  const source = join(import.meta.dirname, "../testing/vsock-peer.c");
  const { status, stderr } = spawnSync("gcc", ["-static", "-O1", "-o", path, source], { encoding: "utf8" });
  assert.equal(status, 0, stderr);
  return readFileSync(path);
}

const sha256 = (data: Uint8Array) => createHash("sha256").update(data).digest("hex");

suite("Debian's drivers", { skip: noGuest }, () => {
  const folder = mkdtempSync(join(tmpdir(), "lodge-virtio-"));
  const at = (name: string) => join(folder, name);
  const resources = new AsyncDisposableStack();
  const content = randomBytes(MIB);
  const port = new EchoPort("52:54:00:00:00:01");
  let balloonBytes = 0;
  let resized = () => {};
  const balloon = new BalloonDevice({
    onResize: (bytes) => {
      balloonBytes = bytes;
      resized();
    },
  });
  let peerBytes = 0;
  let guest: TinyGuest;

  before(async () => {
    writeFileSync(at("disk"), "");
    truncateSync(at("disk"), 64 * MIB);
    // What the guest needs is on its disk, too, behind what it reads.
    const peer = noCompiler ? new Uint8Array(0) : buildPeer(at("vsock-peer"));
    peerBytes = peer.length;
    writeFileSync(at("fixed"), Buffer.concat([content, peer, Buffer.alloc(512 - (peer.length % 512))]));
    const disk = await openImage(at("disk"));
    // One of the disks is behind NBD, in this process.
    const file = await openImage(at("fixed"), { readOnly: true });
    const offered = { disk: file, readOnly: true, contexts: [baseAllocation(file)] };
    const server = await NbdServer.start({ exports: new Map([["", offered]]), listen: { path: at("nbd") } });
    const fixed = await openImage(`nbd+unix:///?socket=${at("nbd")}`, { format: "raw", readOnly: true });
    writeFileSync(at("pmem"), Buffer.alloc(4 * MIB, "P"));
    const pmem = await openPmem({ file: at("pmem") });
    const sockets = await UnixSockets.listen(at("vsock"));
    const vsock = new VsockDevice({ cid: 7, connect: sockets.connect });
    sockets.serve(vsock);
    const split = new BlkDevice({ disk: fixed, serial: "fixed-disk" });
    split.ringFeatures &= ~Feature.RING_PACKED;
    guest = await TinyGuest.boot([
      new BlkDevice({ disk, queues: 2, serial: "lodge-disk" }),
      split,
      new RngDevice(),
      new NetDevice({ port, mac: "52:54:00:12:34:56", mtu: 1400 }),
      balloon,
      vsock,
      pmem.device,
    ]);
    resources.defer(async () => {
      await sockets[Symbol.asyncDispose]();
      await disk.close();
      await fixed.close();
      await server.close();
      await file.close();
      await pmem.file.close();
      rmSync(folder, { recursive: true });
    });
    resources.use(guest);
  });
  after(() => resources.disposeAsync());

  test("every driver has found its device, and both kinds of rings are in use", async () => {
    const drivers = await guest.run(
      "for d in /sys/bus/virtio/devices/*; do basename $(readlink $d/driver); done | sort | uniq -c",
    );
    const counts = Object.fromEntries(
      drivers
        .trim()
        .split("\n")
        .map((line) => [line.trim().split(" ")[1], Number(line.trim().split(" ")[0])]),
    );
    assert.deepEqual(counts, {
      virtio_balloon: 1,
      virtio_blk: 2,
      virtio_console: 1,
      virtio_net: 1,
      virtio_pmem: 1,
      virtio_rng: 1,
      vmw_vsock_virtio_transport: 1,
    });
    // Bit 34 is VIRTIO_F_RING_PACKED, 28 and 29 are indirect descriptors and the event index.
    const features = await guest.run("for d in vda vdb; do cat /sys/block/$d/device/features; done");
    const [packed, split] = features.trim().split("\n");
    assert.deepEqual([packed![34], packed!.slice(28, 30), split![34], split!.slice(28, 30)], ["1", "11", "0", "11"]);
  });

  test("blk: serial, size, reads and writes, a file system that e2fsck finds no fault with", async () => {
    assert.equal(await guest.run("cat /sys/block/vda/serial /sys/block/vdb/serial"), "lodge-diskfixed-disk");
    assert.equal(await guest.run("cat /sys/block/vda/size /sys/block/vdb/ro"), `${(64 * MIB) / 512}\n1\n`);
    assert.equal((await guest.run(`head -c ${MIB} /dev/vdb | sha256sum`)).slice(0, 64), sha256(content));
    await guest.run("dd if=/dev/vdb of=/dev/vda bs=64k seek=512 count=16 conv=fsync 2>/dev/null");
    const written = readFileSync(at("disk"));
    assert.equal(sha256(written.subarray(32 * MIB, 32 * MIB + content.length)), sha256(content));
    await assert.rejects(guest.run("dd if=/dev/zero of=/dev/vdb bs=4k count=1"));
    await guest.run("mke2fs -q /dev/vda 16384 && sync");
  });

  test("blk: requests are no exits", async () => {
    // Page by page, each a request.
    await guest.run("echo 0 >/sys/block/vda/queue/read_ahead_kb; echo 3 >/proc/sys/vm/drop_caches");
    const exitsOf = async (pages: string) => {
      const before = guest.machine.exits()[0]!;
      await guest.run(`dd if=/dev/vda of=/dev/null bs=4k count=${pages} 2>/dev/null`);
      return guest.machine.exits()[0]! - before;
    };
    const requests = async () => Number((await guest.run("cat /sys/block/vda/stat")).trim().split(/ +/)[0]);
    // What is typed and answered on the serial port is exits, as many in both: some 2,800, and now and then 300 less, as its
    // interrupts happen to coincide with the bytes. So the most of a few counts.
    let others = 0;
    for (let times = 0; times < 5; times++) others = Math.max(others, await exitsOf("0000"));
    const before = await requests();
    const exits = (await exitsOf("2000")) - others;
    const made = (await requests()) - before;
    assert.ok(made >= 2000, `${made} requests`);
    assert.ok(exits < made / 10, `${exits} exits for ${made} requests`);
    await guest.run("echo 128 >/sys/block/vda/queue/read_ahead_kb");
  });

  test("blk: e2fsck on the host agrees with mke2fs in the guest", { skip: noChecker }, () => {
    const { status, stdout, stderr } = spawnSync("e2fsck", ["-fn", at("disk")], { encoding: "utf8" });
    assert.equal(status, 0, stdout + stderr);
  });

  test("blk: files on a mounted file system, and what is discarded is given back", async () => {
    await guest.run("mkdosfs /dev/vda && mkdir -p /mnt/disk && mount -t vfat /dev/vda /mnt/disk");
    await guest.run(`head -c ${MIB} /dev/vdb >/mnt/disk/copy && umount /mnt/disk && mount -t vfat /dev/vda /mnt/disk`);
    assert.equal((await guest.run("sha256sum </mnt/disk/copy")).slice(0, 64), sha256(content));
    await guest.run("umount /mnt/disk");
    const before = statSync(at("disk")).blocks;
    assert.notEqual(await guest.run("cat /sys/block/vda/queue/discard_max_bytes"), "0\n");
    await guest.run("blkdiscard /dev/vda && sync");
    assert.ok(statSync(at("disk")).blocks < before / 2, "holes where the data was");
    assert.equal((await guest.run(`head -c ${MIB} /dev/vda | sha256sum`)).slice(0, 64), sha256(new Uint8Array(MIB)));
  });

  test("rng: the kernel takes its random numbers from here", async () => {
    assert.match(await guest.run("cat /sys/class/misc/hw_random/rng_current"), /^virtio_rng/);
    assert.equal(await guest.run("head -c 100 /dev/hwrng | wc -c"), "100\n");
  });

  test("console: the terminal, both ways, and its size", async () => {
    await guest.run("echo from the guest >/dev/hvc0");
    await guest.until("terminal", "from the guest");
    const heard = guest.run("exec 3<>/dev/hvc0; stty raw -echo <&3; echo ready >&3; head -n 1 <&3");
    await guest.until("terminal", "ready");
    guest.console.ports[0]!.send(Buffer.from("from the host\n"));
    assert.equal(await heard, "from the host\n");
    guest.console.resize(133, 44);
    assert.equal(await guest.run("stty size </dev/hvc0"), "44 133\n");
  });

  test("net: pings of every size come back", async () => {
    assert.equal(
      await guest.run("cat /sys/class/net/eth0/address /sys/class/net/eth0/mtu"),
      "52:54:00:12:34:56\n1400\n",
    );
    await guest.run("killall udhcpc 2>/dev/null; ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up");
    for (const size of [56, 1300, 5000, 20000]) {
      assert.match(await guest.run(`ping -c 2 -s ${size} 10.0.2.2`), /2 packets received/, `${size} bytes`);
    }
    assert.ok(port.frames > 30);
  });

  test("vsock: streams to the host and from it", { skip: noCompiler }, async () => {
    await guest.run(
      `tail -c +${MIB + 1} /dev/vdb | head -c ${peerBytes} >/tmp/vsock-peer && chmod 755 /tmp/vsock-peer`,
    );
    const received: Promise<string>[] = [];
    await using server = createServer({ allowHalfOpen: true }, (socket) => {
      received.push(text(socket));
      void received[0]!.then((all) => socket.end(`${all.length} bytes`));
    });
    server.listen(`${at("vsock")}_99`);
    await once(server, "listening");
    assert.equal(await guest.run("seq 1 50000 | /tmp/vsock-peer connect 99"), "288894 bytes");
    assert.match(await received[0]!, /^1\n2\n3\n(.*\n)*50000\n$/);
    await assert.rejects(guest.run("/tmp/vsock-peer connect 98 </dev/null"), /reset|refused/i);

    const job = guest.run("/tmp/vsock-peer listen 5000 >/dev/hvc0");
    await guest.until("terminal", "listening");
    const dialled = createConnection({ path: at("vsock"), allowHalfOpen: true });
    dialled.end("CONNECT 5000\nhello guest");
    assert.equal(await text(dialled), "HELLO GUEST");
    await job;
  });

  test("pmem: the file, at once and without a request for each page, and a flush where one is asked for", async () => {
    assert.equal(await guest.run("cat /sys/block/pmem0/size; head -c 4 /dev/pmem0"), `${(4 * MIB) / 512}\nPPPP`);
    await guest.run("printf kept | dd of=/dev/pmem0 bs=4096 seek=3 conv=sync,fsync 2>/dev/null");
    const written = readFileSync(at("pmem"));
    assert.equal(written.length, 4 * MIB);
    assert.equal(written.toString("latin1", 3 * 4096 - 1, 3 * 4096 + 5), "Pkept\0");
    const interrupts = await guest.run("grep virtio5-requests /proc/interrupts || grep flush /proc/interrupts");
    assert.ok(Number(/:\s+(\d+)/.exec(interrupts)?.[1]) > 0, interrupts);
  });

  test("balloon: pages go to the host and come back, and the guest says how it is", async () => {
    const becomes = async (bytes: number) => {
      while (balloonBytes !== bytes) {
        await new Promise<void>((resolve) => {
          resized = resolve;
        });
      }
    };
    const before = await balloon.statistics();
    assert.ok(before.total! > 150 * MIB && before.free! > 64 * MIB, JSON.stringify(before));
    balloon.setTarget(48 * MIB);
    await becomes(48 * MIB);
    const inflated = await balloon.statistics();
    assert.ok(inflated.free! < before.free! - 40 * MIB, JSON.stringify([before, inflated]));
    balloon.setTarget(0);
    await becomes(0);
    assert.ok((await balloon.statistics()).free! > inflated.free! + 40 * MIB);
  });
});
