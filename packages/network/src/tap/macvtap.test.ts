/** Macvtaps on a cable of this process's network: Linux behind each as its guest, and a host at the cable's other end. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempDisposableSync, readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { KernelGuest } from "../../testing/kernel-guest.ts";
import { command, enterOwnNetwork, Host, lacks } from "../../testing/namespaces.ts";
import { parseMac } from "../packet/address.ts";
import { macvtapPath } from "./macvtap.ts";
import { openQueues } from "./open.ts";
import { TapPort } from "./port.ts";

suite("macvtap", { skip: lacks("ping", "mount") }, () => {
  const resources = new AsyncDisposableStack();
  let folder: string;
  let far: Host;
  const links = () => command("ip", "-o", "link", "show", "type", "macvtap");
  const mac = (number: number) => `52:54:00:00:00:0${number}`;

  before(async () => {
    enterOwnNetwork({ sysfs: true });
    folder = resources.use(mkdtempDisposableSync(join(tmpdir(), "lodge-macvtap-"))).path;
    process.env.XDG_RUNTIME_DIR = folder;
    far = resources.use(await Host.make());
    command("ip", "link", "add", "lower", "type", "veth", "peer", "name", "eth0", "netns", String(far.pid));
    command("ip", "link", "set", "lower", "mtu", "1400", "up");
    await far.do("ip", "link", "set", "eth0", "mtu", "1400", "up");
    await far.do("ip", "address", "add", "192.168.9.1/24", "dev", "eth0");
  });
  after(() => resources.disposeAsync());

  async function join192(port: TapPort, number: number): Promise<KernelGuest> {
    const guest = await KernelGuest.make(port, { mac: mac(number) });
    await guest.host.do("ip", "link", "set", "eth0", "mtu", String(port.mtu));
    await guest.host.do("ip", "address", "add", `192.168.9.${number}/24`, "dev", "eth0");
    return guest;
  }

  const reaches = async ({ host }: KernelGuest, address: string) =>
    (await host.run("ping", "-c", "2", "-i", "0.1", "-W", "1", "-s", "2000", address)).stdout.includes(
      " 0% packet loss",
    );

  test("two in the mode bridge reach each other and the far host; in private only that; both are gone afterwards", async () => {
    for (const [mode, each] of [
      ["bridge", true],
      ["private", false],
    ] as const) {
      using one = TapPort.onDevice("lower", mode, parseMac(mac(3))!);
      using two = TapPort.onDevice("lower", mode, parseMac(mac(4))!, 2);
      assert.deepEqual([one.mtu, one.mac, two.queues], [1400, mac(3), 2]);
      await using guest = await join192(one, 3);
      await using other = await join192(two, 4);
      assert.equal(await reaches(guest, "192.168.9.1"), true);
      assert.equal(await reaches(other, "192.168.9.1"), true);
      assert.equal(await reaches(guest, "192.168.9.4"), each);
    }
    assert.equal(links(), "");
    assert.deepEqual(readdirSync(join(folder, "lodge")), []);
  });

  test("one that exists is opened by its name, with its address; a descriptor of it is taken, too", async () => {
    command(
      "ip",
      "link",
      "add",
      "link",
      "lower",
      "name",
      "mine",
      "address",
      mac(5),
      "type",
      "macvtap",
      "mode",
      "bridge",
    );
    command("ip", "link", "set", "mine", "up");
    const handedIn = () => openQueues("tap mine", "mine", macvtapPath("mine")!, 1).files.map(({ fd }) => fd);
    for (const open of [() => TapPort.open("mine"), () => TapPort.adopt(handedIn())]) {
      using port = open();
      assert.deepEqual([port.mac, port.mtu], [mac(5), 1400]);
      await using guest = await join192(port, 5);
      assert.equal(await reaches(guest, "192.168.9.1"), true);
    }
    assert.match(links(), /mine@lower/);
    command("ip", "link", "del", "mine");
  });

  test("what a killed process left is deleted when the next is made; others' stay", async () => {
    const source = `import { TapPort } from ${JSON.stringify(join(import.meta.dirname, "port.ts"))};
      globalThis.port = TapPort.onDevice("lower", "bridge", Uint8Array.of(2, 0, 0, 0, 0, 1)); console.log("there");
      setInterval(() => {}, 1e6);`;
    const child = spawn(process.execPath, ["--input-type=module-typescript", "-e", source], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    await once(child.stdout, "data");
    const left = /lodge[0-9a-f]{8}/.exec(links())![0];
    {
      using _other = TapPort.onDevice("lower", "bridge", parseMac(mac(6))!);
      assert.match(links(), new RegExp(left));
    }
    child.kill("SIGKILL");
    await once(child, "close");
    assert.match(links(), new RegExp(left));
    {
      using _next = TapPort.onDevice("lower", "bridge", parseMac(mac(6))!);
      assert.doesNotMatch(links(), new RegExp(left));
    }
    assert.equal(links(), "");
  });

  test("what cannot be is said in one line, and leaves nothing", () => {
    const refused = (lower: string, code: string, message: string) =>
      assert.throws(() => TapPort.onDevice(lower, "bridge", parseMac(mac(7))!), { code, message });
    refused(
      "nothere",
      "NETWORK_CONFIG",
      "macvtap on nothere: this host has no device of that name; ip link says which it has",
    );
    command("ip", "link", "add", "br0", "type", "bridge");
    command("ip", "link", "add", "port", "type", "veth", "peer", "name", "ofport");
    command("ip", "link", "set", "port", "master", "br0");
    refused(
      "port",
      "NETWORK_HOST",
      "macvtap on port: the device is taken: by a bridge, or by another in the mode passthru",
    );
    assert.equal(links(), "");
    assert.deepEqual(readdirSync(join(folder, "lodge")), []);
  });
});
