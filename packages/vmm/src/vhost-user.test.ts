/** Cards whose frames another program carries in the guest's own memory, with Debian's driver in the guest. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdtempDisposableSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { suite, test } from "node:test";
import { compile, noKernel } from "../testing/kernel.ts";
import { noGuest } from "../testing/tiny-guest.ts";
import { noDpdk, noPasst, Peer } from "../testing/vhost-user-peers.ts";
import { parseNetwork } from "./configuration/networks.ts";
import type { LifeEvent } from "./life.ts";
import { Machine } from "./machine.ts";

const CABLE = "/sys/class/net/eth0/carrier";

class Guest implements AsyncDisposable {
  readonly machine: Machine;
  readonly #troubles: string[] = [];
  #heard = () => {};

  static async start(path: string, more = "", cpus = 1): Promise<Guest> {
    const networks = [parseNetwork(`vhost-user,path=${path}${more}`, "--net")!];
    return new Guest(await Machine.start({ accel: "soft", memory: "256M", cpus, networks }));
  }

  private constructor(machine: Machine) {
    this.machine = machine;
    machine.watch((event: LifeEvent) => {
      if (event.event !== "trouble") return;
      this.#troubles.push(event.message);
      this.#heard();
    });
  }

  async run(script: string): Promise<string> {
    const { stdout, stderr, status } = await this.machine.exec(["sh", "-c", script]);
    assert.equal(status, 0, stderr + stdout);
    return stdout;
  }

  /** Waits for the next thing that does not work. */
  async trouble(): Promise<string> {
    while (this.#troubles.length === 0) await new Promise<void>((resolve) => (this.#heard = resolve));
    return this.#troubles.shift()!;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.machine.stop();
  }
}

for (const accel of ["kvm", "soft"] as const) {
  const skip = noDpdk || noKernel || (accel === "kvm" && !existsSync("/dev/kvm") && "there is no /dev/kvm");
  test(`${accel}: a guest of a few instructions has answers from DPDK`, { skip }, async () => {
    using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-vhost-user-"));
    const path = join(folder.path, "socket");
    await using _peer = await Peer.testpmd(path, { queues: 1, tso: 0 });
    await using machine = await Machine.start({
      accel,
      memory: "16M",
      kernel: compile("arping.c", folder.path),
      debugExitPort: 0xf4,
      networks: [parseNetwork(`vhost-user,path=${path},mac=52:54:00:12:34:56`, "--net")!],
    });
    const end = await machine.ended;
    assert.deepEqual(end, { reason: "debug-exit", status: 7 });
  });
}

suite("vhost-user", { skip: noGuest }, () => {
  test("passt: a lease, bulk both ways, a reset, and its death and return", { skip: noPasst }, async () => {
    using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-vhost-user-"));
    const path = join(folder.path, "socket");
    const page = Buffer.alloc(3_000_000, "in the guest's own memory ");
    const server = createServer({ allowHalfOpen: true }, async (socket) => {
      const sent = createHash("md5").update(await buffer(socket));
      socket.end(`HTTP/1.0 200 OK\r\nX-MD5: ${sent.digest("hex")}\r\n\r\n`);
    }).listen(0, "127.0.0.1");
    const pages = createServer((socket) => {
      socket.once("data", () => socket.end(Buffer.concat([Buffer.from("HTTP/1.0 200 OK\r\n\r\n"), page])));
    }).listen(0, "127.0.0.1");
    await Promise.all([once(server, "listening"), once(pages, "listening")]);
    await using whenDone = new AsyncDisposableStack();
    whenDone.defer(() => {
      server.close();
      pages.close();
    });
    const at = (one: typeof server) => (one.address() as AddressInfo).port;
    let passt = await Peer.passt(path);
    whenDone.defer(() => passt[Symbol.asyncDispose]());
    await assert.rejects(Guest.start(path, ",queues=2"), {
      message: /: 2 queues in each direction, and who listens there serves 1$/,
    });
    await using guest = await Guest.start(path);
    const works = async () => {
      // On a slow host the one that began with the guest may have given up.
      const lease = "udhcpc -q -f -n -t 10 -i eth0 -s /lib/lodge/dhcp";
      await guest.run(`ip -4 address show eth0 | grep -q 10.9.0.15/24 || ${lease}`);
      assert.match(await guest.run("ip -4 address show eth0"), /inet 10\.9\.0\.15\/24/);
      const md5 = createHash("md5").update(page).digest("hex");
      assert.equal((await guest.run(`wget -q -O - http://10.9.0.2:${at(pages)}/ | md5sum`)).split(" ")[0], md5);
      const told = await guest.run(
        `head -c 1000000 /dev/urandom >/tmp/sent; md5sum </tmp/sent; nc 10.9.0.2 ${at(server)} </tmp/sent`,
      );
      assert.equal(told.split(" ")[0], /X-MD5: (\w+)/.exec(told)?.[1]);
    };
    await works();

    await guest.machine.pause();
    guest.machine.resume();
    await works();

    await guest.machine.reset();
    await works();

    await passt[Symbol.asyncDispose]();
    assert.match(await guest.trouble(), /^vhost-user .*socket: it closed the connection; it is connected to again/);
    await guest.run(`until grep -q 0 ${CABLE}; do sleep 0.1; done`);
    passt = await Peer.passt(path);
    await guest.run(`until grep -q 1 ${CABLE}; do sleep 0.1; done`);
    await works();
  });

  test("DPDK: pings over several queues, a pulled cable, and its death and return", { skip: noDpdk }, async () => {
    using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-vhost-user-"));
    const path = join(folder.path, "socket");
    let peer = await Peer.testpmd(path, { queues: 2, tso: 1 });
    await using whenDone = new AsyncDisposableStack();
    whenDone.defer(() => peer[Symbol.asyncDispose]());
    await using guest = await Guest.start(path, ",queues=2,mtu=1400", 2);
    const { device } = guest.machine.networks[0]!;
    assert.match(await guest.run("cat /sys/class/net/eth0/mtu; ls /sys/class/net/eth0/queues"), /^1400\n.*rx-1/s);
    await guest.run("ip address add 10.9.9.1/24 dev eth0");
    // Each processor sends by a queue of its own, and what comes back may come by either.
    const ping = (size: number) =>
      guest.run(
        `for c in 1 2; do taskset $c ping -c 3 -W 5 -s ${size} 10.9.9.2 | grep ' 0% packet loss' || exit 1; done`,
      );
    await ping(1300);
    device.setLink(false);
    await guest.run(`until grep -q 0 ${CABLE}; do sleep 0.1; done`);
    device.setLink(true);
    await guest.run(`until grep -q 1 ${CABLE}; do sleep 0.1; done`);
    await ping(56);

    await peer[Symbol.asyncDispose]();
    assert.match(await guest.trouble(), /it closed the connection/);
    // One that takes no segments of 64 KiB is not what the guest was promised.
    peer = await Peer.testpmd(path, { queues: 2, tso: 0 });
    assert.match(await guest.trouble(), /cannot do what the guest was told of its card; the cable stays unplugged$/);
    await peer[Symbol.asyncDispose]();
    peer = await Peer.testpmd(path, { queues: 2, tso: 1 });
    await guest.run(`until grep -q 1 ${CABLE}; do sleep 0.1; done`);
    await ping(1300);
  });

  test("what cannot be is said in one line before the machine starts", async () => {
    await assert.rejects(Guest.start("/nonexistent/socket"), {
      code: "NETWORK_HOST",
      message: "cannot connect to /nonexistent/socket: nobody listens there; start that one first",
    });
    for (const text of ["vhost-user", "vhost-user,path=/s,pcap=/p", "vhost-user,path=/s,queues=0"]) {
      assert.throws(() => parseNetwork(text, "--net"), { code: "VMM_CONFIG", message: /^[^\n]+$/ });
    }
  });
});
