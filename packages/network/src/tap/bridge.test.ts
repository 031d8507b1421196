/** Cards on a Linux bridge of this process's network, with Linux as the guests behind them. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { before, suite, test } from "node:test";
import { KernelGuest } from "../../testing/kernel-guest.ts";
import { command, enterOwnNetwork, lacks } from "../../testing/namespaces.ts";
import { FilterPort } from "../filter/filter-port.ts";
import { parseFilter } from "../filter/rules.ts";
import { parseAddress, parseMac } from "../packet/address.ts";
import { TapPort } from "./port.ts";

const CLIENT = join(import.meta.dirname, "../../testing/client.ts");

suite("bridge", { skip: lacks("ping", "dnsmasq", "dhclient") }, () => {
  before(() => {
    enterOwnNetwork();
    command("ip", "link", "add", "br0", "type", "bridge");
    command("ip", "address", "add", "192.168.8.1/24", "dev", "br0");
    command("ip", "link", "set", "br0", "mtu", "1400", "up");
  });
  const ports = () => command("ip", "-o", "link", "show", "master", "br0");

  class Card implements AsyncDisposable {
    readonly #tap = TapPort.onBridge("br0");
    readonly mtu = this.#tap.mtu;
    filter!: FilterPort;
    guest!: KernelGuest;

    static async make(number: number, addresses: readonly string[] = [], dhcpServer?: string): Promise<Card> {
      const card = new Card();
      const mac = `52:54:00:00:00:0${number}`;
      const own = addresses.map((address) => parseAddress(address)!);
      card.filter = new FilterPort(card.#tap, {
        rules: parseFilter("clean-traffic"),
        mac: parseMac(mac)!,
        addresses: own,
        ...(dhcpServer !== undefined && { dhcpServers: [parseAddress(dhcpServer)!] }),
      });
      card.guest = await KernelGuest.make(card.filter, { offloads: number % 2 === 1, mac });
      await card.guest.host.do("ip", "link", "set", "eth0", "mtu", String(card.mtu));
      return card;
    }

    async [Symbol.asyncDispose](): Promise<void> {
      this.#tap[Symbol.dispose]();
      await this.guest?.[Symbol.asyncDispose]();
    }
  }

  const reaches = async ({ guest: { host } }: Card, from: string) =>
    (await host.run("ping", "-c", "1", "-W", "0.5", "-I", from, "192.168.8.1")).stdout.includes("1 received");

  /** By DHCP; it is the card's afterwards. */
  const lease = async ({ guest: { host } }: Card): Promise<string> => {
    const files = ["-lf", "/dev/null", "-pf", "/dev/null"];
    const dhclient = host.start("dhclient", "-4", "-1", "-d", "-sf", "/bin/true", ...files, "eth0");
    let given: string | undefined;
    for await (const said of dhclient.stderr!) {
      given = /bound to (\S+)/.exec(String(said))?.[1];
      if (given !== undefined) break;
    }
    dhclient.kill();
    await host.do("ip", "address", "add", `${given}/24`, "dev", "eth0");
    return given!;
  };

  test("two guests and the host reach each other, with the bridge's MTU; nothing is left afterwards", async () => {
    const server = createServer({ allowHalfOpen: true }, (socket) => socket.resume().end(data)).listen(
      0,
      "192.168.8.1",
    );
    const data = Buffer.alloc(8 << 20, "over the bridge ");
    await once(server, "listening");
    {
      await using one = await Card.make(1);
      await using two = await Card.make(2);
      assert.equal(one.mtu, 1400);
      assert.equal(ports().trim().split("\n").length, 2);
      for (const [card, last] of [
        [one, 2],
        [two, 3],
      ] as const) {
        await card.guest.host.do("ip", "address", "add", `192.168.8.${last}/24`, "dev", "eth0");
      }
      assert.match(await one.guest.host.do("ping", "-c", "2", "-i", "0.1", "192.168.8.3"), /2 received/);
      const { port } = server.address() as AddressInfo;
      const sha256 = createHash("sha256").update(data).digest("hex");
      for (const { guest } of [one, two]) {
        const told = await guest.host.do(process.execPath, CLIENT, "download", "192.168.8.1", String(port), "1");
        assert.deepEqual(JSON.parse(told), [{ bytes: data.length, sha256 }]);
      }
    }
    server.close();
    assert.equal(ports(), "");
  });

  test("an address that DHCP gave is the guest's, and the first otherwise; others do not go out", async () => {
    const dnsmasq = spawn("dnsmasq", [
      ...["--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface=br0", "--bind-interfaces", "--leasefile-ro"],
      ...["--dhcp-range=192.168.8.100,192.168.8.120", "--dhcp-authoritative"],
    ]);
    using whenDone = new DisposableStack();
    whenDone.defer(() => dnsmasq.kill("SIGKILL"));
    for await (const said of dnsmasq.stderr) if (/sockets bound|DHCP, IP range/.test(String(said))) break;
    dnsmasq.stderr.resume();
    await using card = await Card.make(1);
    const { host } = card.guest;
    const answers = async (from: string) => reaches(card, from);
    for (const last of [7, 8]) await host.do("ip", "address", "add", `192.168.8.${last}/24`, "dev", "eth0");
    assert.deepEqual([await answers("192.168.8.7"), await answers("192.168.8.8")], [true, false]);
    const given = await lease(card);
    assert.deepEqual([await answers(given), await answers("192.168.8.7")], [true, false]);
    assert.ok(card.filter.spoofed > 0);

    // The word of a server that is none of the network's counts for nothing.
    for (const [number, server, believed] of [
      [4, "192.168.8.1", true],
      [5, "192.168.8.2", false],
    ] as const) {
      await using choosy = await Card.make(number, [], server);
      await choosy.guest.host.do("ip", "address", "add", `192.168.8.${number}0/24`, "dev", "eth0");
      assert.equal(await reaches(choosy, `192.168.8.${number}0`), true);
      assert.equal(await reaches(choosy, await lease(choosy)), believed);
    }

    await using said = await Card.make(3, ["192.168.8.33"]);
    for (const last of [32, 33])
      await said.guest.host.do("ip", "address", "add", `192.168.8.${last}/24`, "dev", "eth0");
    assert.deepEqual([await reaches(said, "192.168.8.33"), await reaches(said, "192.168.8.32")], [true, false]);
  });

  test("a process that is killed leaves no port behind; what cannot be is said in one line", async () => {
    const source = `import { TapPort } from ${JSON.stringify(join(import.meta.dirname, "port.ts"))};
      globalThis.port = TapPort.onBridge("br0"); console.log("there"); setInterval(() => {}, 1e6);`;
    const child = spawn(process.execPath, ["--input-type=module-typescript", "-e", source], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    await once(child.stdout, "data");
    assert.match(ports(), /lodge0/);
    child.kill("SIGKILL");
    await once(child, "close");
    assert.equal(ports(), "");

    assert.throws(() => TapPort.onBridge("lo"), {
      code: "NETWORK_CONFIG",
      message: "bridge lo: it is a device, but no bridge; ip link show type bridge says which are",
    });
    assert.throws(() => TapPort.onBridge("br9"), {
      code: "NETWORK_CONFIG",
      message: /no device of that name; make one/,
    });
    assert.doesNotMatch(command("ip", "link"), /lodge\d/);
  });
});
