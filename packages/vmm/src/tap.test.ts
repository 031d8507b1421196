/** Taps and macvtaps behind Debian's own driver. */

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { before, suite, test } from "node:test";
import { command, enterOwnNetwork, Host, noNetworks } from "../../network/testing/namespaces.ts";
import { noGuest } from "../testing/tiny-guest.ts";
import { parseNetwork } from "./configuration/networks.ts";
import { Machine } from "./machine.ts";

suite("taps", { skip: noGuest || noNetworks }, () => {
  before(() => enterOwnNetwork({ sysfs: true }));

  test("a tap with a queue for each vCPU, and a macvtap: bulk both ways; both are gone with the machine", async () => {
    await using far = await Host.make();
    command("ip", "link", "add", "lower", "type", "veth", "peer", "name", "eth0", "netns", String(far.pid));
    command("ip", "link", "set", "lower", "up");
    await far.do("ip", "link", "set", "eth0", "up");
    await far.do("ip", "address", "add", "192.168.9.1/24", "dev", "eth0");
    const data = randomBytes(2_000_000);
    const server = createServer((socket) => socket.end(data)).listen(0);
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    {
      await using machine = await Machine.start({
        accel: "soft",
        memory: "256M",
        cpus: 2,
        networks: ["tap,ifname=lodge0,queues=2", "macvtap=lower"].map((net) => parseNetwork(net, "--net")!),
      });
      const run = async (script: string) => {
        const { stdout, stderr, status } = await machine.exec(["sh", "-c", script]);
        assert.equal(status, 0, stderr + stdout);
        return stdout;
      };
      command("ip", "address", "add", "10.0.9.1/24", "dev", "lodge0");
      command("ip", "link", "set", "lodge0", "up");
      await run("ip link set eth0 up; ip address add 10.0.9.15/24 dev eth0");
      await run("ip link set eth1 up; ip address add 192.168.9.15/24 dev eth1");
      // Both pairs are in use: each has interrupts of its own.
      assert.match(await run("ls /sys/class/net/eth0/queues"), /rx-1/);
      for (const cpu of [1, 2]) {
        const got = await run(`taskset ${cpu} nc 10.0.9.1 ${port} </dev/null | sha256sum`);
        assert.equal(got.split(" ")[0], createHash("sha256").update(data).digest("hex"));
      }
      assert.match(await run("ping -c 2 -s 1400 192.168.9.1"), / 0% packet loss/);
      assert.match(await far.do("ping", "-c", "2", "-i", "0.2", "192.168.9.15"), / 0% packet loss/);
    }
    server.close();
    assert.doesNotMatch(command("ip", "link"), /lodge/);
  });
});
