/** The registers from before virtio 1, as Debian's own drivers use them when they are told to. */

import assert from "node:assert/strict";
import { mkdtempDisposableSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { BalloonDevice, BlkDevice, NetDevice, RngDevice, UnixSockets, VsockDevice } from "@lodge/devices";
import { openImage } from "@lodge/storage";
import { EchoPort } from "../testing/echo-port.ts";
import { noGuest, TinyGuest } from "../testing/tiny-guest.ts";

const MIB = 1 << 20;

test("Debian's drivers with virtio_pci.force_legacy", { skip: noGuest }, async () => {
  using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-legacy-"));
  const path = join(folder.path, "disk");
  writeFileSync(path, "");
  truncateSync(path, 16 * MIB);
  await using resources = new AsyncDisposableStack();
  const disk = await openImage(path);
  resources.defer(() => disk.close());
  await using sockets = await UnixSockets.listen(join(folder.path, "vsock"));
  let balloonBytes = 0;
  let resized = () => {};
  const balloon = new BalloonDevice({
    onResize: (bytes) => {
      balloonBytes = bytes;
      resized();
    },
  });
  await using guest = await TinyGuest.boot(
    [
      new BlkDevice({ disk, queues: 2, serial: "lodge-disk" }),
      new NetDevice({ port: new EchoPort("52:54:00:00:00:01"), mac: "52:54:00:12:34:56" }),
      new RngDevice(),
      balloon,
      new VsockDevice({ cid: 7, connect: sockets.connect }),
    ],
    "virtio_pci.force_legacy=1",
  );
  // Bit 32 is VIRTIO_F_VERSION_1. vsock is younger than that, so that there is no other way to it.
  const versions = await guest.run(
    'for d in /sys/bus/virtio/devices/*; do echo "$(basename $(readlink $d/driver)) $(cut -c 33 $d/features)"; done | sort',
  );
  assert.equal(
    versions,
    "virtio_balloon 0\nvirtio_blk 0\nvirtio_console 0\nvirtio_net 0\nvirtio_rng 0\nvmw_vsock_virtio_transport 1\n",
  );

  assert.equal(await guest.run("cat /sys/block/vda/serial /sys/block/vda/size"), `lodge-disk${(16 * MIB) / 512}\n`);
  await guest.run("seq 100000 | dd of=/dev/vda bs=64k conv=fsync 2>/dev/null");
  assert.match(readFileSync(path, "latin1").slice(0, 20), /^1\n2\n3\n4\n5\n/);

  await guest.run("ip link set eth0 up && ip addr add 10.0.0.2/24 dev eth0");
  assert.match(await guest.run("ping -c 3 -i 0.2 -s 1400 10.0.0.1"), /3 packets received/);

  await guest.run("dd if=/dev/hwrng of=/dev/null bs=512 count=1 2>/dev/null");

  const taken = new Promise<void>((resolve) => {
    resized = () => balloonBytes === 8 * MIB && resolve();
  });
  balloon.setTarget(8 * MIB);
  await taken;

  // A driver that goes and comes again resets its device, and does not wait for that itself.
  const device = "$(basename $(readlink -f /sys/block/vda/device))";
  await guest.run(`
    d=${device}
    echo $d >/sys/bus/virtio/drivers/virtio_blk/unbind
    echo $d >/sys/bus/virtio/drivers/virtio_blk/bind
    dd if=/dev/vda bs=64k count=1 2>/dev/null | head -n 2 | tail -n 1 | grep -x 2`);
});
