/**
 * User-mode NAT as Debian's own programs in a guest find it, by IPv4 and IPv6: dhclient, ping, dig by UDP and TCP, curl. They are the
 * host's, whose files the guest sees.
 */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";
import { test } from "node:test";
import { noGuest } from "../testing/tiny-guest.ts";
import { parseNetwork } from "./configuration/networks.ts";
import { Machine } from "./machine.ts";

const missing = ["dhclient", "ping", "dig", "curl"].find(
  (program) => spawnSync("sh", ["-c", `command -v ${program}`]).status !== 0,
);
const skip = noGuest || (missing !== undefined && `${missing} is not installed`);

test("dhclient, ping, dig and curl in a guest, by both families", { skip }, async () => {
  const page = randomBytes(500_000);
  const md5 = (data: Uint8Array) => createHash("md5").update(data).digest("hex");
  const servers = await Promise.all(
    ["127.0.0.1", "::1"].map(async (address) => {
      const server = createServer(async (request, response) => {
        if (request.method === "POST") response.end(md5(await buffer(request)));
        else response.end(page);
      }).listen(0, address);
      await once(server, "listening");
      return server;
    }),
  );
  using whenDone = new DisposableStack();
  for (const server of servers) {
    whenDone.defer(() => {
      server.close();
      server.closeAllConnections();
    });
  }
  await using machine = await Machine.start({
    accel: "soft",
    memory: "384M",
    name: "lab1",
    shares: [{ folder: "/", tag: "host", readonly: true }],
    networks: [parseNetwork("nat,loopback,mtu=1400", "--net")!],
  });
  const run = async (script: string) => {
    const { stdout, stderr, status } = await machine.exec(["sh", "-c", script]);
    assert.equal(status, 0, `${script}: ${stderr}${stdout}`);
    return stdout;
  };
  // Its own devices, and memory where the host's folder cannot be written.
  await run("for d in dev proc sys; do mount -o bind /$d /mnt/host/$d; done; mount -t tmpfs tmpfs /mnt/host/tmp");
  const host = (script: string) =>
    run(`chroot /mnt/host /usr/bin/env PATH=/usr/bin:/usr/sbin:/bin:/sbin sh -c '${script}'`);

  const files = "-lf /tmp/leases -pf /tmp/pid";
  assert.match(await host(`dhclient -4 -1 -v -sf /bin/true ${files} eth0 2>&1`), /bound to 10\.0\.2\.15/);
  assert.match(await host(`dhclient -6 -1 -v -sf /usr/bin/env ${files} eth0 2>&1`), /new_ip6_address=fd00:10:0:2:/);
  for (const address of ["10.0.2.2", "fd00:10:0:2::2"]) {
    assert.match(await host(`ping -c 2 -W 5 ${address}`), / 0% packet loss/);
  }
  for (const way of ["+notcp", "+tcp"]) {
    for (const server of ["10.0.2.3", "fd00:10:0:2::3"]) {
      const asked = "lab1.lodge.internal gateway.lodge.internal AAAA -x 10.0.2.15";
      const told = await host(`dig @${server} ${way} +short +tries=2 +time=10 ${asked}`);
      assert.equal(told, "10.0.2.15\nfd00:10:0:2::2\nlab1.lodge.internal.\n", `${server} ${way}`);
    }
  }
  for (const [index, address] of ["10.0.2.2", "[fd00:10:0:2::2]"].entries()) {
    const url = `http://${address}:${(servers[index]!.address() as AddressInfo).port}/`;
    assert.equal(await host(`curl -sg ${url} | tee /tmp/page | md5sum | cut -c -32`), `${md5(page)}\n`);
    assert.equal(await host(`curl -sg --data-binary @/tmp/page ${url}`), md5(page));
  }
});
