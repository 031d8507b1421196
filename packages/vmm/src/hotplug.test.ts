/** Disks and network cards that come and go while Debian's kernel runs, by the library and by QMP. */

import assert from "node:assert/strict";
import { mkdtempDisposableSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { Client } from "../testing/qmp-client.ts";
import { noGuest } from "../testing/tiny-guest.ts";
import { type LifeEvent, Machine } from "./index.ts";

const MIB = 1 << 20;

suite("hotplug", { skip: noGuest }, () => {
  const folder = mkdtempDisposableSync(join(tmpdir(), "lodge-hotplug-"));
  const at = (name: string) => join(folder.path, name);
  const told: LifeEvent[] = [];
  let vm: Machine;
  let client: Client;

  const sh = async (script: string) => {
    const { stdout, stderr, status } = await vm.exec(["sh", "-c", script]);
    assert.deepEqual([stderr, status], ["", 0], script);
    return stdout;
  };
  const blocks = () => sh("cd /sys/block && echo *");

  before(async () => {
    for (const name of ["first", "second", "third"]) {
      writeFileSync(at(name), name);
      truncateSync(at(name), MIB);
    }
    vm = await Machine.start({
      accel: "soft",
      cpus: 2,
      memory: "192M",
      append: "lodge.shell=0",
      networks: [],
      disks: [{ file: at("first") }],
      qmp: at("qmp"),
    });
    vm.watch((event) => told.push(event));
    client = await Client.connect(at("qmp"));
    await client.answer();
    await client.ask("qmp_capabilities");
  });
  after(async () => {
    await vm?.stop();
    client?.close();
    folder.remove();
  });

  test("a disk comes, is used, and goes when the guest has let go; its slot is free again", async () => {
    for (const round of [1, 2]) {
      const disk = await vm.plugDisk({ file: at("second"), serial: `round-${round}` });
      assert.equal(disk.id, "disk1");
      await sh("until [ -b /dev/vdb ]; do :; done");
      assert.deepEqual((await sh("cat /sys/block/vdb/serial; echo; head -c 6 /dev/vdb")).split("\n"), [
        `round-${round}`,
        round === 1 ? "second" : "round1",
      ]);
      await sh(`printf round${round} | dd of=/dev/vdb conv=notrunc,fsync 2>/dev/null`);
      const place = await sh("readlink -f /sys/block/vdb/device/..");
      assert.match(place, /0000:00:05\.0\n$/);
      await vm.unplug(disk);
      assert.equal(await blocks(), "vda\n");
      assert.equal(await sh("ls /sys/bus/pci/devices | grep -c 00:05 || true"), "0\n");
      assert.equal(readFileSync(at("second"), "latin1").slice(0, 6), `round${round}`);
      assert.deepEqual(vm.disks.length, 1);
      await assert.rejects(async () => vm.unplug(disk), { code: "VMM_CONFIG" });
    }
    assert.deepEqual(told.splice(0), [
      { event: "unplugged", id: "disk1" },
      { event: "unplugged", id: "disk1" },
    ]);
  });

  test("a network card comes and goes; what the machine had from its start goes as well, and comes back", async () => {
    const card = await vm.plugNetwork({ mode: "nat", mac: "52:54:00:00:00:77" }, "uplink");
    await sh("until [ -e /sys/class/net/eth0 ]; do :; done");
    assert.equal(await sh("cat /sys/class/net/eth0/address"), "52:54:00:00:00:77\n");
    await sh("udhcpc -q -f -n -i eth0 -s /lib/lodge/dhcp >/dev/null 2>&1; ip route get 10.0.2.2 >/dev/null");
    const [first] = vm.disks;
    await Promise.all([vm.unplug(card), vm.unplug(first!)]);
    assert.equal(await sh("ls /sys/class/net; ls /sys/block"), "lo\n");
    await vm.plugDisk({ file: at("first") }, "disk0");
    await sh("until [ -b /dev/vda ]; do :; done");
    assert.equal(await sh("head -c 5 /dev/vda"), "first");
    assert.deepEqual(
      told
        .splice(0)
        .map((event) => (event.event === "unplugged" ? event.id : ""))
        .toSorted(),
      ["disk0", "uplink"],
    );
  });

  test("by QMP, as QEMU's clients go about it", async () => {
    client.events.length = 0;
    const file = { driver: "file", "node-name": "file", filename: at("third") };
    assert.deepEqual(await client.ask("blockdev-add", file), { return: {} });
    const node = { driver: "raw", "node-name": "third", file: "file" };
    assert.deepEqual(await client.ask("blockdev-add", node), { return: {} });
    const device = { driver: "virtio-blk-pci", id: "late", drive: "third", serial: "by-qmp" };
    assert.deepEqual(await client.ask("device_add", device), { return: {} });
    await sh("until [ -b /dev/vdb ]; do :; done");
    assert.equal(await sh("cat /sys/block/vdb/serial; echo; head -c 5 /dev/vdb"), "by-qmp\nthird");
    const { return: disks } = await client.ask("query-block");
    assert.deepEqual(
      (disks as { device: string }[]).map((disk) => disk.device),
      ["disk0", "late"],
    );

    const refused = async (execute: string, args: object) => {
      const { error } = await client.ask(execute, args);
      return (error as { desc: string }).desc;
    };
    assert.equal(
      await refused("device_add", { ...device, id: "other" }),
      "Property 'drive' can't take value 'third', it's in use",
    );
    assert.equal(await refused("device_add", { ...device, drive: "none" }), "Property 'drive' can't find value 'none'");
    assert.equal(await refused("blockdev-del", { "node-name": "third" }), "Node 'third' is in use");
    assert.match(await refused("blockdev-add", { ...file, filename: at("none"), "node-name": "none" }), /none/);
    assert.equal(await refused("device_del", { id: "nobody" }), "Device 'nobody' not found");
    assert.match(await refused("device_add", { driver: "e1000", id: "x" }), /'e1000' is no device/);

    assert.deepEqual(await client.ask("netdev_add", { type: "user", id: "wire", restrict: true }), { return: {} });
    assert.deepEqual(await client.ask("device_add", { driver: "virtio-net-pci", id: "late", netdev: "wire" }), {
      error: { class: "GenericError", desc: "there is a device late already" },
    });
    assert.deepEqual(await client.ask("device_add", { driver: "virtio-net-pci", id: "card", netdev: "wire" }), {
      return: {},
    });
    await sh("until [ -e /sys/class/net/eth0 ]; do :; done");

    for (const id of ["late", "card"]) {
      assert.deepEqual(await client.ask("device_del", { id }), { return: {} });
      assert.deepEqual(await client.event("DEVICE_DELETED"), { device: id, path: `/machine/peripheral/${id}` });
    }
    assert.equal(await sh("ls /sys/class/net; ls /sys/block"), "lo\nvda\n");
    assert.deepEqual(await client.ask("blockdev-del", { "node-name": "third" }), { return: {} });
    assert.deepEqual(await client.ask("netdev_del", { id: "wire" }), { return: {} });
    told.length = 0;
  });

  test("a slot that the guest powers off keeps its device; a reset is the end of what is to go", async () => {
    const slot = "/sys/bus/pci/slots/4";
    assert.equal(await sh(`echo 0 >${slot}/power; ls /sys/block; echo 1 >${slot}/power; ls /sys/block`), "vda\n");
    assert.deepEqual(told.splice(0), []);
    // Nobody lets go while the machine stands.
    await vm.pause();
    const disk = await vm.plugDisk({ file: at("second") });
    const gone = vm.unplug(disk);
    const again = vm.reset();
    vm.resume();
    await Promise.all([again, gone]);
    assert.equal(await blocks(), "vda\n");
    assert.equal(vm.disks.length, 1);
  });
});
