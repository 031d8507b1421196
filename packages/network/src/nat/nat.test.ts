/**
 * The NAT with Linux's own network stack for a guest, and the programs that people use on it. The world is this process's
 * network, and a host behind it.
 */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { mkdtempDisposableSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, suite, test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { KernelGuest } from "../../testing/kernel-guest.ts";
import { command, enterOwnNetwork, Host, lacks, noNetworks } from "../../testing/namespaces.ts";
import { errorsIn } from "../../testing/tshark.ts";
import { CapturePort } from "../capture/capture-port.ts";
import { PcapFile } from "../capture/pcap.ts";
import { parseForward } from "./forward.ts";
import { Nat } from "./nat.ts";

const MIB = 1 << 20;
const CLIENT = join(import.meta.dirname, "../../testing/client.ts");
const WORLD = "198.18.0.2";
const WORLD6 = "2001:db8::2";

/** A server of this process on its loopback address, or another; closed with its connections. */
async function serve(
  answer: (socket: Socket) => void,
  address = "127.0.0.1",
): Promise<AsyncDisposable & { port: number }> {
  const sockets = new Set<Socket>();
  const server: Server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.once("close", () => sockets.delete(socket));
    answer(socket);
  });
  server.listen(0, address);
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}

/** Waits until something is so; what changes it is an event of this process, so each turn of its loop is a moment to look. */
async function until(holds: () => boolean, what: string): Promise<void> {
  const end = performance.now() + 30_000;
  while (!holds()) {
    if (performance.now() > end) throw new Error(`never: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

/** What this process holds on to: objects, and buffers outside of the heap. */
async function reachableBytes(): Promise<number> {
  // What one collection finds unused may hold what the next one does.
  for (let pass = 0; pass < 3; pass++) {
    collect();
    await new Promise(setImmediate);
  }
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

suite("NAT with Linux as the guest", { skip: noNetworks }, () => {
  const resources = new AsyncDisposableStack();
  const data = Buffer.alloc(20 * MIB, "0123456789abcdef!");
  const sha256 = createHash("sha256").update(data).digest("hex");
  let nat: Nat;
  let guest: KernelGuest;
  let world: Host;
  let folder: string;
  const client = async (job: string, address: string, port: number, number = 1) =>
    JSON.parse(await guest.host.do(process.execPath, CLIENT, job, address, String(port), String(number)));

  before(async () => {
    enterOwnNetwork();
    folder = resources.use(mkdtempDisposableSync(join(tmpdir(), "lodge-nat-"))).path;
    command("sysctl", "-qw", "net.ipv4.ping_group_range=0 65535");
    world = resources.use(await Host.make());
    command("ip", "link", "add", "world", "type", "veth", "peer", "name", "eth0", "netns", String(world.pid));
    command("ip", "address", "add", "198.18.0.1/24", "dev", "world");
    command("ip", "address", "add", "2001:db8::1/64", "dev", "world", "nodad");
    command("ip", "link", "set", "world", "up");
    await world.do("ip", "address", "add", `${WORLD}/24`, "dev", "eth0");
    await world.do("ip", "address", "add", `${WORLD6}/64`, "dev", "eth0", "nodad");
    await world.do("ip", "link", "set", "eth0", "up");
    nat = resources.use(
      new Nat({
        loopback: true,
        hostName: "lab1",
        resolvers: () => ({
          servers: [{ address: Uint8Array.from(WORLD.split("."), Number), port: 53 }],
          search: ["example.com"],
        }),
      }),
    );
    const capture = resources.use(new PcapFile(join(folder, "guest.pcap")));
    guest = resources.use(await KernelGuest.make(new CapturePort(nat, capture)));
    await guest.configure();
  });
  after(() => resources.disposeAsync());

  test("dhclient gets an address, the gateway, the name server and the names to search", {
    skip: lacks("dhclient"),
  }, async () => {
    const script = join(folder, "show");
    writeFileSync(script, '#!/bin/sh\n[ "$reason" = BOUND ] && env\nexit 0\n', { mode: 0o755 });
    const configuration = join(folder, "dhclient.conf");
    writeFileSync(
      configuration,
      "request subnet-mask, routers, domain-name-servers, domain-search, interface-mtu, host-name;\n",
    );
    const files = ["-sf", script, "-cf", configuration, "-lf", join(folder, "leases"), "-pf", join(folder, "pid")];
    const dhclient = guest.host.start("dhclient", "-4", "-1", "-d", ...files, "eth0");
    const told = text(dhclient.stdout!);
    for await (const said of dhclient.stderr!) if (String(said).includes("bound to")) break;
    dhclient.kill();
    const given = Object.fromEntries((await told).split("\n").map((line) => line.split(/=(.*)/).slice(0, 2)));
    assert.equal(given.new_ip_address, "10.0.2.15");
    assert.equal(given.new_subnet_mask, "255.255.255.0");
    assert.equal(given.new_routers, "10.0.2.2");
    assert.equal(given.new_domain_name_servers, "10.0.2.3");
    assert.match(given.new_domain_search, /lodge\.internal\.? example\.com/);
    assert.equal(given.new_host_name, "lab1");
  });

  test("the kernel makes itself an address of IPv6, and a default route", async () => {
    await guest.host.do(
      "sh",
      "-c",
      "until ip -6 address show dev eth0 | grep -q 'fd00:10:0:2.*global'; do sleep 0.1; done",
    );
    await guest.host.do("sh", "-c", "while ip -6 address show dev eth0 | grep -q tentative; do sleep 0.1; done");
    assert.match(await guest.host.do("ip", "-6", "route", "show", "default"), /via fe80::2 .*proto ra/);
  });

  for (const [address, where] of [
    ["10.0.2.2", "the gateway"],
    ["fd00:10:0:2::2", "the gateway by IPv6"],
    [WORLD, "the world"],
    [WORLD6, "the world by IPv6"],
  ] as const) {
    test(`ping reaches ${where}`, { skip: lacks("ping") }, async () => {
      const output = await guest.host.do("ping", "-c", "3", "-i", "0.2", "-s", "2000", address);
      assert.match(output, /3 packets transmitted, 3 received/);
    });
  }

  test("dhclient -6 gets an address, the name server and the names to search", {
    skip: lacks("dhclient"),
  }, async () => {
    const script = join(folder, "show6");
    writeFileSync(script, '#!/bin/sh\n[ "$reason" = BOUND6 ] && env && echo told >&2\nexit 0\n', { mode: 0o755 });
    const files = ["-sf", script, "-lf", join(folder, "leases6"), "-pf", join(folder, "pid6")];
    const dhclient = guest.host.start("dhclient", "-6", "-1", "-d", ...files, "eth0");
    const told = text(dhclient.stdout!);
    for await (const said of dhclient.stderr!) if (String(said).includes("told")) break;
    dhclient.kill();
    const given = Object.fromEntries((await told).split("\n").map((line) => line.split(/=(.*)/).slice(0, 2)));
    assert.equal(given.new_ip6_address, "fd00:10:0:2::1:f");
    assert.equal(given.new_dhcp6_name_servers, "fd00:10:0:2::3");
    assert.match(given.new_dhcp6_domain_search, /lodge\.internal\.? example\.com/);
  });

  for (const address of [WORLD, `[${WORLD6}]`]) {
    test(`curl loads a page of the world from ${address}, and sends it one`, { skip: lacks("curl") }, async () => {
      const page = "p".repeat(300_000);
      const source = `require("node:http").createServer((request, response) => {
        let bytes = 0;
        request.on("data", (part) => { bytes += part.length; });
        request.on("end", () => response.end(request.method === "POST" ? String(bytes) : "p".repeat(300_000)));
      }).listen(8080, "::", () => console.log("listening"))`;
      const server = world.start(process.execPath, "-e", source);
      await once(server.stdout!, "data");
      assert.equal(await guest.host.do("curl", "-sg", `http://${address}:8080/`), page);
      writeFileSync(join(folder, "page"), page);
      assert.equal(
        await guest.host.do("curl", "-sg", "-d", `@${join(folder, "page")}`, `http://${address}:8080/`),
        "300000",
      );
      server.kill();
      await once(server, "close");
    });
  }

  for (const [what, args] of [
    ["up", []],
    ["down", ["-R"]],
    ["up in four streams by IPv6", ["-P", "4", "-6"]],
  ] as const) {
    test(`iperf3: ${what}`, { skip: lacks("iperf3") }, async () => {
      const server = world.start("iperf3", "-s", "-1", "--forceflush");
      const closed = once(server, "close");
      for await (const said of server.stdout!.iterator({ destroyOnReturn: false })) {
        if (String(said).includes("listening")) break;
      }
      server.stdout!.resume();
      const to = args.some((arg) => arg === "-6") ? WORLD6 : WORLD;
      const { end } = JSON.parse(await guest.host.do("iperf3", "-c", to, "-n", "64M", "-J", ...args));
      // What is on the way when it ends is not counted.
      assert.ok(end.sum_received.bytes >= 32 * MIB, `${end.sum_received.bytes} bytes`);
      await closed;
    });
  }

  test("dig has answers by UDP and TCP, of this network and of the host's resolvers", {
    skip: lacks("dig", "dnsmasq"),
  }, async () => {
    const long = Array.from({ length: 40 }, (_, index) => `--txt-record=long.example.com,${"t".repeat(60)}${index}`);
    const server = world.start(
      "dnsmasq",
      "--keep-in-foreground",
      "--no-resolv",
      "--no-hosts",
      "--user=root",
      "--log-facility=-",
      `--pid-file=${join(folder, "dnsmasq")}`,
      "--address=/www.example.com/192.0.2.80",
      ...long,
    );
    await once(server.stderr!, "data");
    const dig = (...args: string[]) => guest.host.do("dig", "@10.0.2.3", "+tries=2", "+time=5", "+short", ...args);
    for (const way of ["+notcp", "+tcp"]) {
      assert.equal(await dig(way, "www.example.com"), "192.0.2.80\n", way);
      assert.equal(await dig(way, "gateway.lodge.internal"), "10.0.2.2\n", way);
      assert.equal(await dig(way, "-x", "10.0.2.2"), "gateway.lodge.internal.\n", way);
    }
    assert.match(await guest.host.do("dig", "@10.0.2.3", "nobody.lodge.internal"), /status: NXDOMAIN/);
    // Too long for a datagram: dig is told so, and asks by TCP.
    assert.match(
      await guest.host.do("dig", "@10.0.2.3", "+ignore", "+noedns", "TXT", "long.example.com"),
      /flags: qr.* tc/,
    );
    assert.equal((await dig("TXT", "long.example.com")).trim().split("\n").length, 40);
    server.kill();
    await once(server, "close");
  });

  for (const [family, address, listening] of [
    ["IPv4", "10.0.2.2", "127.0.0.1"],
    ["IPv6", "fd00:10:0:2::2", "::1"],
  ] as const) {
    test(`transfers arrive whole over ${family}, both ways`, async () => {
      await using down = await serve((socket) => socket.end(data), listening);
      const results = await client("download", address, down.port, 4);
      for (const { bytes, sha256: hash } of results) assert.deepEqual([bytes, hash], [data.length, sha256]);
      // The guest ends first, and still gets the answer: half-closed.
      await using up = await serve((socket) => {
        let bytes = 0;
        socket.on("data", (part: Buffer) => {
          bytes += part.length;
        });
        socket.once("end", () => socket.end(`${bytes}`));
      }, listening);
      const { bytes } = await client("upload", address, up.port, 20);
      assert.equal(bytes, String(20 * MIB).length);
    });
  }

  test("how a connect fails is what the guest is told", async () => {
    assert.equal(await client("connect", "10.0.2.2", 1), "ECONNREFUSED");
    assert.equal(await client("connect", WORLD, 1), "ECONNREFUSED");
    assert.equal(await client("connect", "192.0.2.1", 80), "ENETUNREACH");
    for (const hidden of ["127.0.0.1", "169.254.169.254"]) {
      if (hidden !== "127.0.0.1") assert.equal(await client("connect", hidden, 80), "EHOSTUNREACH", hidden);
    }
    assert.equal(await client("connect", "198.18.0.77", 80), "EHOSTUNREACH");
  });

  test("resets pass through in both directions", async () => {
    await using resetting = await serve((socket) => socket.once("data", () => socket.resetAndDestroy()));
    assert.equal((await client("upload", "10.0.2.2", resetting.port, 1)).error, "ECONNRESET");
    let heard = "";
    await using reset = await serve((socket) => {
      socket.on("error", (error: NodeJS.ErrnoException) => {
        heard = error.code ?? "";
      });
      socket.on("data", (part: Buffer) => socket.write(part));
    });
    await client("reset", "10.0.2.2", reset.port);
    await until(() => heard === "ECONNRESET", "the server hears of the reset");
  });

  test("a guest that does not read makes nothing grow here", async () => {
    let sent = 0;
    await using server = await serve((socket) => {
      const fill = () => {
        while (sent < 256 * MIB) {
          sent += 65536;
          if (!socket.write(Buffer.alloc(65536))) return;
        }
        socket.end();
      };
      socket.on("drain", fill);
      fill();
    });
    const stalled = guest.host.start(process.execPath, CLIENT, "stall", "10.0.2.2", String(server.port));
    await once(stalled.stdout!, "data");
    // The buffers on the way are full when nothing more has been taken for a while.
    let last = -1;
    let looks = 0;
    let held = 0;
    await until(() => {
      looks = last === sent ? looks + 1 : 0;
      last = sent;
      held = Math.max(held, nat.status.heldBytes);
      return sent > 0 && looks > 60;
    }, "the sender waits");
    assert.ok(held <= 2 * MIB, `${held} bytes are held`);
    assert.ok(sent < 64 * MIB, `${sent} bytes are on the way`);
    stalled.stdin!.end();
    const output = await text(stalled.stdout!);
    assert.equal(JSON.parse(output).bytes, 256 * MIB);
  });

  test("a peer that does not read makes the guest wait", async () => {
    let peer: Socket | undefined;
    await using server = await serve((socket) => {
      peer = socket.pause();
    });
    const uploading = client("upload", "10.0.2.2", server.port, 64);
    await until(() => peer !== undefined, "the guest is there");
    let last = -1;
    let looks = 0;
    let held = 0;
    await until(() => {
      const { bytesFromGuest, heldBytes } = nat.status;
      looks = last === bytesFromGuest ? looks + 1 : 0;
      last = bytesFromGuest;
      held = Math.max(held, heldBytes);
      return looks > 60;
    }, "the guest waits");
    assert.ok(held > 0 && held <= 2 * MIB, `${held} bytes are held`);
    let bytes = 0;
    peer!.on("data", (part: Buffer) => {
      bytes += part.length;
    });
    peer!.once("end", () => peer!.end("done")).resume();
    assert.equal((await uploading).bytes, 4);
    assert.equal(bytes, 64 * MIB);
  });

  for (const udp of [true, false]) {
    test(`datagrams, long ones ${udp ? "whole" : "in pieces"}, and the word that nobody is there`, async () => {
      guest.takes.udp = udp;
      const echo = world.start(process.execPath, CLIENT, "echo", "any", "7007");
      await once(echo.stdout!, "data");
      for (const bytes of [1, 1472, 1473, 9000, 60_000]) {
        const got = await client("datagram", WORLD, 7007, bytes);
        const hash = createHash("sha256").update(Buffer.alloc(bytes, "d")).digest("hex");
        assert.deepEqual(got, { bytes, sha256: hash, from: WORLD }, `${bytes} bytes`);
      }
      assert.deepEqual(await client("datagram", WORLD, 9, 10), { error: "ECONNREFUSED" });
      assert.deepEqual(await client("datagram", "10.0.2.2", 9, 10), { error: "ECONNREFUSED" });
      echo.kill();
      await once(echo, "close");
    });
  }

  test("forwarded ports lead into the guest, and come and go", async () => {
    const echo = guest.host.start(process.execPath, CLIENT, "echo", "any", "8000");
    await once(echo.stdout!, "data");
    const ask = async (where: { port: number; host?: string } | { path: string }) => {
      const socket = connect(where);
      socket.end("hello");
      return text(socket);
    };
    const socketPath = join(folder, "web");
    const six = /fd00:10:0:2:5054[^/]*/.exec(await guest.host.do("ip", "-6", "address", "show", "dev", "eth0"))![0];
    const forwards = [
      ...["tcp::0-:8000", `unix:${socketPath}-:8000`, "udp::0-:8000", "tcp:[::1]:0-10.0.2.15:8000"],
      ...[`udp:[::1]:0-[${six}]:8000`, "tcp::20000..20002-:7999"],
    ].map(parseForward);
    const ports = forwards.map((forward) => nat.forwards.add(forward)[0]!);
    assert.equal(await ask({ port: ports[0]!, host: "127.0.0.1" }), "hello");
    assert.equal(await ask({ path: socketPath }), "hello");
    assert.equal(await ask({ port: ports[3]!, host: "::1" }), "hello");
    // Of a range, each port leads to its own of the guest.
    assert.equal(await ask({ port: 20001, host: "127.0.0.1" }), "hello");
    for (const port of [20000, 20002]) await assert.rejects(ask({ port, host: "127.0.0.1" }), { code: "ECONNRESET" });
    for (const [family, address, port] of [
      ["udp4", "127.0.0.1", ports[2]!],
      ["udp6", "::1", ports[4]!],
    ] as const) {
      const socket = createSocket(family);
      socket.send("datagram", port, address);
      const [answer] = (await once(socket, "message")) as [Buffer];
      assert.equal(answer.toString(), "datagram");
      socket.close();
    }

    await using taken = await serve(() => {});
    const first = taken.port - 1;
    const refused = {
      code: "NETWORK_HOST",
      message: new RegExp(`cannot forward 127.0.0.1 port ${taken.port}: the port is taken`),
    };
    assert.throws(() => nat.forwards.add(parseForward(`tcp::${first}..${taken.port + 1}-:8000`)), refused);
    // Of a range, nothing is left when one of it cannot be had.
    nat.forwards.add(parseForward(`tcp::${first}-:8000`));
    nat.forwards.remove(parseForward(`tcp::${first}-:8000`));
    for (const forward of forwards) assert.ok(nat.forwards.remove(forward));
    await assert.rejects(ask({ port: ports[0]!, host: "127.0.0.1" }), { code: "ECONNREFUSED" });
    await assert.rejects(ask({ path: socketPath }), { code: "ENOENT" });
    echo.kill();
    await once(echo, "close");
  });

  test("a guest that nobody serves there resets who was forwarded to it", async () => {
    const [port] = nat.forwards.add(parseForward("tcp::0-:4"));
    const socket = connect({ port: port!, host: "127.0.0.1" });
    await assert.rejects(text(socket), { code: "ECONNRESET" });
    nat.forwards.remove(parseForward("tcp::0-:4"));
  });

  test("1,000 idle connections take less than 10 MiB, and leave nothing behind", async (t) => {
    const echo = world.start(process.execPath, CLIENT, "echo", "any", "7008");
    await once(echo.stdout!, "data");
    await until(() => nat.status.tcp === 0, "the connections of the tests before are gone");
    const rounds: number[] = [];
    // The first round brings what is kept for later ones: code, buffers that are used again.
    for (let round = 0; round < 2; round++) {
      const before = await reachableBytes();
      const idle = guest.host.start(process.execPath, CLIENT, "idle", WORLD, "7008", "1000");
      idle.stderr!.pipe(process.stderr);
      await once(idle.stdout!, "data");
      assert.equal(nat.status.tcp, 1000);
      rounds.push((await reachableBytes()) - before);
      const closed = once(idle, "close");
      idle.stdin!.end();
      idle.stdout!.resume();
      await closed;
      await until(() => nat.status.tcp === 0, "all connections are gone");
    }
    t.diagnostic(`${rounds.map((bytes) => `${(bytes / MIB).toFixed(2)} MiB`).join(", then ")}`);
    for (const bytes of rounds) assert.ok(bytes > 0 && bytes < 10 * MIB, `${bytes} bytes`);
    echo.kill();
    await once(echo, "close");
  });

  test("many connections leave nothing behind", async () => {
    await using server = await serve((socket) => socket.pipe(socket));
    assert.equal(await client("many", "10.0.2.2", server.port, 500), 500);
    await until(() => nat.status.tcp === 0, "all connections are gone");
    const before = nat.status.sockets;
    const memory = await reachableBytes();
    assert.equal(await client("many", "10.0.2.2", server.port, 10_000), 10_000);
    await until(() => nat.status.tcp === 0, "all connections are gone");
    assert.equal(nat.status.heldBytes, 0);
    assert.ok(nat.status.sockets <= before, `${nat.status.sockets} sockets`);
    // A timer or a closure for each of them would be more.
    const left = (await reachableBytes()) - memory;
    assert.ok(left < 10_000 * 100, `${left} bytes`);
  });

  test("tshark finds no fault with what was captured", { skip: lacks("tshark") }, () => {
    assert.equal(errorsIn(join(folder, "guest.pcap"), "eth.src == 52:55:0a:00:02:02"), "");
  });
});
