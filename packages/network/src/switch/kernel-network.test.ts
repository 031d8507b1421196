/** Named networks that the kernel carries: this process's network is the host's, and a namespace is the world. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdirSync, mkdtempDisposableSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { KernelGuest } from "../../testing/kernel-guest.ts";
import { command, enterOwnNetwork, Host, lacks } from "../../testing/namespaces.ts";
import { removeNetwork, writeNetwork } from "../definition/store.ts";
import { dumpSwitch, switchStatus } from "./connection.ts";
import { type Joined, joinNetwork } from "./join.ts";
import { bridgeName } from "./kernel-network.ts";

const CLIENT = join(import.meta.dirname, "../../testing/client.ts");
const FORWARDING = "/proc/sys/net/ipv4/ip_forward";
const FORWARDING6 = "/proc/sys/net/ipv6/conf/all/forwarding";

class Member implements AsyncDisposable {
  readonly #joined: Joined;
  readonly guest: KernelGuest;

  private constructor(joined: Joined, guest: KernelGuest) {
    this.#joined = joined;
    this.guest = guest;
  }

  static async join(network: string, number: number): Promise<Member> {
    const mac = `52:54:00:00:00:0${number}`;
    const joined = await joinNetwork({ network, mac, name: `m${number}` });
    try {
      return new Member(joined, await KernelGuest.make(joined.port, { mac }));
    } catch (error) {
      joined[Symbol.dispose]();
      throw error;
    }
  }

  /** By dhclient, which says which address and router it was given. */
  async configure(folder: string): Promise<{ address: string; router: string }> {
    const { host } = this.guest;
    const files = ["-lf", join(folder, "leases"), "-pf", join(folder, "pid")];
    const dhclient = host.start("dhclient", "-4", "-1", "-d", "-sf", "/usr/bin/env", ...files, "eth0");
    let told = "";
    dhclient.stdout!.on("data", (data: Buffer) => {
      told += data;
    });
    for await (const said of dhclient.stderr!) if (String(said).includes("bound to")) break;
    dhclient.kill();
    await once(dhclient, "close");
    const [, address = ""] = /^new_ip_address=(.*)$/m.exec(told) ?? [];
    const [, router = ""] = /^new_routers=(.*)$/m.exec(told) ?? [];
    await host.do("ip", "address", "add", `${address}/24`, "dev", "eth0");
    await host.do("ip", "route", "add", "default", "via", router);
    return { address, router };
  }

  do(...args: string[]): Promise<string> {
    return this.guest.host.do(...args);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#joined[Symbol.dispose]();
    await this.guest[Symbol.asyncDispose]();
  }
}

async function until(is: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await is())) await new Promise((resolve) => setTimeout(resolve, 5));
}

suite("networks of the kernel", { skip: lacks("nft", "dhclient", "dig", "ping") }, () => {
  const folder = mkdtempDisposableSync(join(tmpdir(), "lodge-kernel-"));
  let world: Host;
  before(async () => {
    enterOwnNetwork();
    process.env.XDG_RUNTIME_DIR = join(folder.path, "run");
    process.env.XDG_CONFIG_HOME = join(folder.path, "config");
    mkdirSync(process.env.XDG_RUNTIME_DIR, { mode: 0o700 });
    writeFileSync(FORWARDING, "0");
    writeFileSync(FORWARDING6, "0");
    world = await Host.make();
    command("ip", "link", "add", "out", "type", "veth", "peer", "name", "in");
    world.take("in");
    command("ip", "address", "add", "192.0.2.1/24", "dev", "out");
    command("ip", "link", "set", "out", "up");
    await world.do("ip", "address", "add", "192.0.2.2/24", "dev", "in");
    command("ip", "address", "add", "2001:db8:9::1/64", "dev", "out", "nodad");
    await world.do("ip", "link", "set", "in", "up");
    await world.do("ip", "address", "add", "2001:db8:9::2/64", "dev", "in", "nodad");
    // It knows no way to the machines: only what is masqueraded comes back.
    const echo = world.start(process.execPath, CLIENT, "echo", "any", "7000");
    await once(echo.stdout!, "data");
  });
  after(async () => {
    await world?.[Symbol.asyncDispose]();
    folder.remove();
  });

  const isGone = (name: string) => !command("ip", "link").includes(bridgeName(name));

  test("machines get addresses and names, reach each other and the world; nobody from there reaches them", async () => {
    writeNetwork({ name: "lab", mode: "nat", bridge: true, network: "10.78.2.0/24", network6: "fd00:10:78:2::/64" });
    using whenDone = new DisposableStack();
    whenDone.defer(() => removeNetwork("lab"));
    {
      await using one = await Member.join("lab", 1);
      await using two = await Member.join("lab", 2);
      assert.deepEqual(await one.configure(folder.path), { address: "10.78.2.15", router: "10.78.2.1" });
      const { address } = await two.configure(folder.path);
      assert.match(await one.do("ping", "-c", "2", "-i", "0.1", address), /2 received/);
      assert.match(await one.do("ping", "-c", "1", "10.78.2.1"), /1 received/);
      assert.equal((await one.do("dig", "+short", "@10.78.2.3", "m2.lodge.internal")).trim(), address);
      const reached = JSON.parse(await one.do(process.execPath, CLIENT, "connect", "192.0.2.2", "7000"));
      assert.equal(reached, "connected");
      await world.do("ip", "route", "add", "10.78.2.0/24", "via", "192.0.2.1");
      assert.equal((await world.run("ping", "-c", "1", "-W", "0.5", address)).stdout.includes("1 received"), false);
      // Of IPv6 the kernel makes itself an address, and has the bridge for its router.
      const own6 = async (member: Member) => {
        const inet6 = /inet6 (fd00:10:78:2:5054\S*)\/64 (?!.*tentative)/;
        await until(async () => inet6.test(await member.do("ip", "-6", "address", "show", "dev", "eth0")));
        return inet6.exec(await member.do("ip", "-6", "address", "show", "dev", "eth0"))![1]!;
      };
      const two6 = await own6(two);
      await own6(one);
      assert.match(await one.do("ip", "-6", "route", "show", "default"), /via fe80::1 .*proto ra/);
      for (const there of [two6, "fd00:10:78:2::1", "2001:db8:9::2"]) {
        assert.match(await one.do("ping", "-c", "2", "-i", "0.1", there), /2 received/, there);
      }
      const reached6 = JSON.parse(await one.do(process.execPath, CLIENT, "connect", "2001:db8:9::2", "7000"));
      assert.equal(reached6, "connected");
      assert.match(
        await one.do("dig", "+short", "@fd00:10:78:2::3", "gateway.lodge.internal", "AAAA"),
        /^fd00:10:78:2::2$/m,
      );
      await world.do("ip", "route", "add", "fd00:10:78:2::/64", "via", "2001:db8:9::1");
      assert.equal((await world.run("ping", "-c", "1", "-W", "0.5", two6)).stdout.includes("1 received"), false);
      // Routers' advertisements are still heard where the host is no router.
      assert.equal(readFileSync("/proc/sys/net/ipv6/conf/out/forwarding", "utf8").trim(), "0");
      // Nobody else is the router.
      await two.do("ip", "address", "add", "fd00:10:78:2::1/64", "dev", "eth0", "nodad");
      const { stdout: asRouter } = await two.guest.host.run(
        ...["ping", "-c", "1", "-W", "0.5", "-I", "fd00:10:78:2::1", "2001:db8:9::2"],
      );
      assert.match(asRouter, /0 received/);
      await two.do("ip", "address", "del", "fd00:10:78:2::1/64", "dev", "eth0");

      const status = (await switchStatus("lab"))!;
      assert.deepEqual(
        status.ports.map((port) => [port.name, port.address]),
        [
          ["m1", "10.78.2.15"],
          ["m2", address],
        ],
      );
      assert.ok(status.ports.every(({ counters }) => counters.framesIn > 0 && counters.framesOut > 0));
      await assert.rejects(dumpSwitch("lab"), /its frames are the kernel's: tcpdump -i lodge-lab/);
      await assert.rejects(
        joinNetwork({ network: "lab", mac: "52:54:00:00:00:05", vlan: 10 }),
        /has a bridge .* no VLANs/,
      );

      // The kernel goes on while its network's process is another one; that one takes over what it finds.
      process.kill(status.pid, "SIGKILL");
      assert.match(await one.do("ping", "-c", "1", address), /1 received/);
      await until(async () => (await switchStatus("lab"))?.ports.length === 2);
      assert.match(await one.do("ping", "-c", "1", "192.0.2.2"), /1 received/);
      assert.equal((await two.do("dig", "+short", "@10.78.2.3", "m1.lodge.internal")).trim(), "10.78.2.15");
    }
    await until(() => isGone("lab"));
    await until(() => readFileSync(FORWARDING, "utf8").trim() === "0");
    await until(() => readFileSync(FORWARDING6, "utf8").trim() === "0");
    await until(() => command("nft", "list", "tables") === "");
    await until(() => readdirSync(join(process.env.XDG_RUNTIME_DIR!, "lodge")).join() === "net-lab.json");
  });

  test("an isolated one has no way out; one whose process and machines were killed is gone with the next", async () => {
    const network = { network: "10.78.4.0/24", network6: "fd00:10:78:4::/64" };
    writeNetwork({ name: "a-longer-name", mode: "isolated", bridge: true, ...network });
    using whenDone = new DisposableStack();
    whenDone.defer(() => removeNetwork("a-longer-name"));
    {
      await using one = await Member.join("a-longer-name", 1);
      await one.configure(folder.path);
      assert.match(await one.do("ping", "-c", "1", "10.78.4.1"), /1 received/);
      const { stdout } = await one.guest.host.run("ping", "-c", "1", "-W", "0.5", "192.0.2.2");
      assert.match(stdout, /0 received/);
      await until(async () => (await one.do("ip", "-6", "route", "show", "default")).includes("fe80::1"));
      const { stdout: six } = await one.guest.host.run("ping", "-c", "1", "-W", "0.5", "2001:db8:9::2");
      assert.match(six, /0 received/);
      assert.equal(readFileSync(FORWARDING, "utf8").trim(), "0");
      process.kill((await switchStatus("a-longer-name"))!.pid, "SIGKILL");
    }
    // Whether or not somebody had begun to serve it again: nothing is left when the next machine has ended.
    await (await Member.join("a-longer-name", 2))[Symbol.asyncDispose]();
    await until(() => isGone("a-longer-name"));
    await until(() => command("nft", "list", "tables") === "");
  });
});
