/** Named networks with Linux's own stack as their machines, served by a process as users have it. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempDisposableSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { type AddressInfo, connect, createServer as createStreamServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, suite, test } from "node:test";
import { KernelGuest } from "../../testing/kernel-guest.ts";
import { command, enterOwnNetwork, lacks } from "../../testing/namespaces.ts";
import { errorsIn } from "../../testing/tshark.ts";
import { freeAddresses, type NetworkDefinition } from "../definition/definition.ts";
import { readNetworks, removeNetwork, writeNetwork } from "../definition/store.ts";
import { SwitchClient } from "./client.ts";
import { dumpSwitch, switchStatus } from "./connection.ts";

const CLIENT = join(import.meta.dirname, "../../testing/client.ts");

/** What a machine serves on port 7000. */
const DATA = Buffer.alloc(8 << 20, "through the switch ");
const SERVER = `require("node:net")
  .createServer({ allowHalfOpen: true }, (socket) => socket.resume().end(Buffer.alloc(${DATA.length}, "through the switch ")))
  .listen(7000, () => console.log("listening"))`;

/** A machine on a network. */
class Member implements AsyncDisposable {
  readonly port: SwitchClient;
  readonly guest: KernelGuest;

  private constructor(port: SwitchClient, guest: KernelGuest) {
    this.port = port;
    this.guest = guest;
  }

  static async join(network: string, name: string, number: number, more: object = {}): Promise<Member> {
    const mac = `52:54:00:00:00:0${number}`;
    const port = await SwitchClient.join({ network, mac, name, ...more });
    try {
      return new Member(port, await KernelGuest.make(port, { offloads: number % 2 === 1, mac }));
    } catch (error) {
      port[Symbol.dispose]();
      throw error;
    }
  }

  do(...args: string[]): Promise<string> {
    return this.guest.host.do(...args);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.port[Symbol.dispose]();
    await this.guest[Symbol.asyncDispose]();
  }
}

/** Waits for what a process beside this one does. */
async function until(is: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await is())) await new Promise((resolve) => setTimeout(resolve, 5));
}

function isAlive(pid: number): boolean {
  return existsSync(`/proc/${pid}`) && !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
}

suite("machines on named networks", { skip: lacks("ping", "dhclient", "dig", "tshark", "curl") }, () => {
  const folder = mkdtempDisposableSync(join(tmpdir(), "lodge-switch-"));
  before(() => {
    enterOwnNetwork();
    process.env.XDG_RUNTIME_DIR = join(folder.path, "run");
    process.env.XDG_CONFIG_HOME = join(folder.path, "config");
    mkdirSync(process.env.XDG_RUNTIME_DIR, { mode: 0o700 });
  });
  after(() => folder.remove());
  const define = (definition: NetworkDefinition) => {
    writeNetwork(definition);
    return { [Symbol.dispose]: () => removeNetwork(definition.name) };
  };
  const askForAddress = async ({ guest }: Member) => {
    const files = ["-pf", join(folder.path, "pid"), "-lf", join(folder.path, "leases")];
    const dhclient = guest.host.start("dhclient", "-4", "-1", "-d", "-sf", "/bin/true", ...files, "eth0");
    for await (const said of dhclient.stderr!) if (String(said).includes("bound to")) break;
    dhclient.kill();
  };
  const addresses = async (member: Member, number: number) =>
    member.do("ip", "address", "add", `192.168.7.${number}/24`, "dev", "eth0");

  test("two transfer, with segments that one of them has to be cut; their switch is killed, and they go on", async () => {
    using _bare = define({ name: "lab", mode: "bare" });
    await using one = await Member.join("lab", "one", 1);
    await using two = await Member.join("lab", "two", 2);
    await Promise.all([addresses(one, 1), addresses(two, 2)]);
    assert.match(await one.do("ping", "-c", "2", "-i", "0.1", "192.168.7.2"), /2 received/);
    const whole = { bytes: DATA.length, sha256: createHash("sha256").update(DATA).digest("hex") };
    const serve = async ({ guest }: Member) => {
      const server = guest.host.start(process.execPath, "-e", SERVER);
      await once(server.stdout!, "data");
    };
    await serve(two);
    const load = async (from: Member, to: string) => from.do(process.execPath, CLIENT, "download", to, "7000", "2");
    // Who watches changes nothing of what goes by.
    (await dumpSwitch("lab")).resume();
    assert.deepEqual(JSON.parse(await load(one, "192.168.7.2")), [whole, whole]);

    const first = (await switchStatus("lab"))!;
    assert.deepEqual(
      first.ports.map(({ name, counters }) => [name, counters.lost, counters.flooding]),
      [
        ["one", 0, 0],
        ["two", 0, 0],
      ],
    );
    process.kill(first.pid, "SIGKILL");
    await until(() => !one.port.isConnected && !two.port.isConnected);
    await until(() => one.port.isConnected && two.port.isConnected);
    assert.notEqual((await switchStatus("lab"))!.pid, first.pid);
    assert.deepEqual(JSON.parse(await load(one, "192.168.7.2")), [whole, whole]);
    // The other way cuts for who takes no segments.
    await serve(one);
    assert.deepEqual(JSON.parse(await load(two, "192.168.7.1")), [whole, whole]);
  });

  test("the process comes with the first machine and goes with the last; what cannot be is said in one line", async () => {
    await assert.rejects(SwitchClient.join({ network: "nowhere", mac: "52:54:00:00:00:01" }), {
      code: "NETWORK_CONFIG",
      message: "there is no network nowhere; make it: lodge net create nowhere",
    });
    using _bare = define({ name: "brief", mode: "bare" });
    assert.equal(await switchStatus("brief"), undefined);
    // All at once: one of them starts it.
    const macs = Array.from({ length: 6 }, (_, at) => `52:54:00:00:01:0${at}`);
    const ports = await Promise.all(macs.map((mac) => SwitchClient.join({ network: "brief", mac })));
    const { pid, ports: seen } = (await switchStatus("brief"))!;
    assert.deepEqual(seen.map(({ mac }) => mac).toSorted(), macs);
    await assert.rejects(SwitchClient.join({ network: "brief", mac: macs[0]! }), {
      code: "NETWORK_HOST",
      message: `network brief: another machine on it has the address ${macs[0]}; give this one another mac=`,
    });
    for (const port of ports) port[Symbol.dispose]();
    await until(() => !isAlive(pid));
    assert.deepEqual(
      readdirSync(join(process.env.XDG_RUNTIME_DIR!, "lodge")).filter((file) => file.endsWith(".sock")),
      [],
    );

    const taken = createStreamServer().listen(0, "127.0.0.1");
    await once(taken, "listening");
    const { port } = taken.address() as AddressInfo;
    using _taken = define({
      ...{ name: "taken", mode: "nat", network: "10.78.9.0/24", network6: "fd00:10:78:9::/64" },
      forwards: [`tcp::${port}-10.78.9.15:80`],
    });
    await assert.rejects(SwitchClient.join({ network: "taken", mac: macs[0]! }), {
      code: "NETWORK_HOST",
      message: new RegExp(`^cannot forward 127.0.0.1 port ${port}: the port is taken`),
    });
    taken.close();
  });

  test("a network with NAT has addresses, names and a way out for each; a capture of it is as tshark wants it", async () => {
    const page = "x".repeat(300_000);
    const web = createServer((_, response) => response.end(page)).listen(0, "127.0.0.1");
    await once(web, "listening");
    const { port } = web.address() as AddressInfo;
    using _nat = define({ name: "out", mode: "nat", ...freeAddresses(readNetworks()), loopback: true });
    using whenDone = new DisposableStack();
    whenDone.defer(() => web.close());
    const dump = await dumpSwitch("out");
    const captured: Buffer[] = [];
    dump.on("data", (data: Buffer) => captured.push(data)).resume();
    {
      await using one = await Member.join("out", "one", 1);
      await using two = await Member.join("out", "two", 2);
      for (const member of [one, two]) await askForAddress(member);
      const { ports } = (await switchStatus("out"))!;
      assert.deepEqual(
        ports.map(({ name, address }) => [name, address]),
        [
          ["one", "10.78.1.15"],
          ["two", "10.78.1.16"],
        ],
      );
      for (const [member, address] of [
        [one, ports[0]!.address!],
        [two, ports[1]!.address!],
      ] as const) {
        await member.do("ip", "address", "add", `${address}/24`, "dev", "eth0");
        await member.do("ip", "route", "add", "default", "via", "10.78.1.2");
        assert.equal(await member.do("curl", "-s", `http://10.78.1.2:${port}/`), page);
      }
      assert.equal((await two.do("dig", "+short", "@10.78.1.3", "one.lodge.internal")).trim(), "10.78.1.15");
      assert.equal((await one.do("dig", "+short", "@10.78.1.3", "-x", "10.78.1.16")).trim(), "two.lodge.internal.");
      assert.match(await one.do("ping", "-c", "1", "10.78.1.16"), /1 received/);

      // The addresses outlive their process: a machine that comes later gets none that another has.
      process.kill((await switchStatus("out"))!.pid, "SIGKILL");
      await until(() => !one.port.isConnected && !two.port.isConnected);
      await until(() => one.port.isConnected && two.port.isConnected);
      await using three = await Member.join("out", "three", 3);
      await askForAddress(three);
      const later = (await switchStatus("out"))!.ports.find(({ name }) => name === "three");
      assert.equal(later!.address, "10.78.1.17");
    }
    const file = join(folder.path, "out.pcap");
    writeFileSync(file, Buffer.concat(captured));
    const protocols = command("tshark", "-r", file, "-q", "-z", "io,phs");
    for (const protocol of ["arp", "dhcp", "dns", "http", "icmp"])
      assert.match(protocols, new RegExp(`\\b${protocol}\\b`));
    assert.equal(errorsIn(file), "");
  });

  test("ports of the host lead in; an isolated network has names and no way out", async () => {
    using _nat = define({
      ...{ name: "in", mode: "nat", network: "10.78.5.0/24", network6: "fd00:10:78:5::/64" },
      forwards: [`unix:${join(folder.path, "web")}-10.78.5.15:7000`],
    });
    using keeper = await SwitchClient.join({ network: "in", mac: "52:54:00:00:00:0f" });
    let left: Promise<unknown>;
    {
      await using one = await Member.join("in", "one", 1);
      await one.do("ip", "address", "add", "10.78.5.15/24", "dev", "eth0");
      await one.do("ping", "-c", "1", "10.78.5.2");
      const echo = one.guest.host.start(process.execPath, CLIENT, "echo", "any", "7000");
      await once(echo.stdout!, "data");
      const caller = connect(join(folder.path, "web"));
      caller.end("hello");
      assert.equal(await text(caller), "hello");
      const staying = connect(join(folder.path, "web")).on("error", () => {});
      staying.write("x");
      await once(staying, "data");
      left = once(staying, "close");
    }
    // A machine that is gone answers nobody: its connections are over, and the network goes on.
    await left;
    assert.equal(keeper.isConnected, true);
    using _isolated = define({
      name: "inner",
      mode: "isolated",
      network: "10.78.6.0/24",
      network6: "fd00:10:78:6::/64",
    });
    await using one = await Member.join("inner", "one", 1);
    await one.do("ip", "address", "add", "10.78.6.15/24", "dev", "eth0");
    await one.do("ip", "route", "add", "default", "via", "10.78.6.2");
    assert.match(await one.do("ping", "-c", "1", "10.78.6.2"), /1 received/);
    assert.equal(JSON.parse(await one.do(process.execPath, CLIENT, "connect", "192.0.2.1", "80")), "EHOSTUNREACH");
  });

  test("nobody takes another's address, nor the gateway's; who may is asked at the port", async () => {
    using _nat = define({ name: "own", mode: "nat", network: "10.78.8.0/24", network6: "fd00:10:78:8::/64" });
    await using one = await Member.join("own", "one", 1);
    await using liar = await Member.join("own", "liar", 2);
    await using free = await Member.join("own", "free", 3, { filter: "none" });
    const counters = async (name: string) =>
      (await switchStatus("own"))!.ports.find((port) => port.name === name)!.counters;
    const at = (member: Member, last: number) => member.do("ip", "address", "add", `10.78.8.${last}/24`, "dev", "eth0");
    const answers = async (member: Member, from: number, to: number) => {
      const { stdout } = await member.guest.host.run(
        "ping",
        "-c",
        "1",
        "-W",
        "0.5",
        "-I",
        `10.78.8.${from}`,
        `10.78.8.${to}`,
      );
      return stdout.includes("1 received");
    };
    await at(one, 15);
    assert.equal(await answers(one, 15, 2), true);
    for (const last of [16, 15, 2]) await at(liar, last);
    assert.equal(await answers(liar, 16, 3), true);
    // One's own, and the gateway's.
    assert.equal(await answers(liar, 15, 3), false);
    assert.equal(await answers(liar, 2, 3), false);
    assert.ok((await counters("liar")).spoofed > 0);
    await at(liar, 17);
    await liar.do("ip", "link", "set", "eth0", "address", "52:54:00:00:00:09");
    assert.equal(await answers(liar, 17, 3), false);
    await free.do("ip", "link", "set", "eth0", "address", "52:54:00:00:00:08");
    await at(free, 18);
    assert.equal(await answers(free, 18, 2), true);
    assert.equal((await counters("one")).spoofed, 0);
    assert.equal((await counters("free")).spoofed, 0);
  });

  test("machines of one VLAN hear each other only", async () => {
    using _bare = define({ name: "lab", mode: "bare" });
    await using red = await Member.join("lab", "red", 1, { vlan: 10 });
    await using alsoRed = await Member.join("lab", "red", 2, { vlan: 10 });
    await using blue = await Member.join("lab", "blue", 3);
    await Promise.all([addresses(red, 1), addresses(alsoRed, 2), addresses(blue, 3)]);
    assert.match(await red.do("ping", "-c", "1", "192.168.7.2"), /1 received/);
    const { stdout } = await red.guest.host.run("ping", "-c", "1", "-W", "0.3", "192.168.7.3");
    assert.match(stdout, /0 received/);
  });
});
