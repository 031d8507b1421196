/** A machine's network as its guest has it: by DHCP and DNS as soon as there is a command, through user-mode NAT. */

import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { createServer } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { parseForward } from "@lodge/network";
import { noGuest } from "../testing/tiny-guest.ts";
import { parseNetwork } from "./configuration/networks.ts";
import { Machine } from "./machine.ts";

test("tiny has its address and names before its first command; ports lead in and out, the cable can be pulled", {
  skip: noGuest,
}, async () => {
  const page = "x".repeat(200_000);
  const server = createServer((_, response) => response.end(page)).listen(0, "127.0.0.1");
  await once(server, "listening");
  using whenDone = new DisposableStack();
  whenDone.defer(() => {
    server.close();
    server.closeAllConnections();
  });
  const { port } = server.address() as AddressInfo;
  await using machine = await Machine.start({
    accel: "soft",
    memory: "256M",
    name: "lab1",
    networks: [parseNetwork("nat,loopback,hostfwd=tcp::0-:7000", "--net")!],
  });
  const run = async (script: string) => {
    const { stdout, stderr, status } = await machine.exec(["sh", "-c", script]);
    assert.equal(status, 0, stderr + stdout);
    return stdout;
  };
  assert.match(
    await run("ip -4 address show eth0; cat /etc/resolv.conf"),
    /inet 10\.0\.2\.15\/24.*nameserver 10\.0\.2\.3/s,
  );
  assert.match(await run("nslookup lab1.lodge.internal"), /Address: 10\.0\.2\.15/);
  assert.match(await run("nslookup gateway"), /Address: 10\.0\.2\.2\n/);
  assert.equal(await run(`wget -q -O /tmp/page http://10.0.2.2:${port}/ && wc -c < /tmp/page`), "200000\n");
  await assert.rejects(run("wget -q -O - http://10.0.2.2:1/"), /Connection refused/);

  // Datagrams of 8 KiB come whole: nobody cuts them, nor puts them together again (RFC 1350, RFC 2348).
  const tftp = createSocket("udp4").bind(0, "127.0.0.1");
  await once(tftp, "listening");
  whenDone.defer(() => tftp.close());
  tftp.on("message", (asked, from) => {
    const block = asked.readUInt16BE(0) === 4 ? asked.readUInt16BE(2) : undefined;
    const data = Buffer.from(page.slice((block ?? 0) * 8192, ((block ?? 0) + 1) * 8192));
    const answer =
      block === undefined ? Buffer.from("\0\x06blksize\x008192\0") : Buffer.from([0, 3, 0, block + 1, ...data]);
    if (block === undefined || block * 8192 <= page.length) tftp.send(answer, from.port, from.address);
  });
  const { port: tftpPort } = tftp.address();
  assert.equal(await run(`tftp -g -b 8192 -r page -l /tmp/tftp 10.0.2.2 ${tftpPort} && wc -c < /tmp/tftp`), "200000\n");
  assert.equal(await run("awk '/^Ip: [0-9]/ { print $15, $16 }' /proc/net/snmp"), "0 0\n");

  const [network] = machine.networks;
  const inward = network!.nat!.forwards.list[0]!.ports[0]!;
  const listening = machine.exec(["sh", "-c", "nc -l -p 7000 | tr a-z A-Z"]);
  await run("until grep -q :1B58 /proc/net/tcp6; do sleep 0.1; done");
  connect(inward, "127.0.0.1").end("through the forward");
  assert.equal((await listening).stdout, "THROUGH THE FORWARD");
  network!.nat!.forwards.remove(parseForward("tcp::0-:7000"));
  const refused = connect(inward, "127.0.0.1");
  await assert.rejects(text(refused), { code: "ECONNREFUSED" });

  network!.device.setLink(false);
  await run("until grep -q 0 /sys/class/net/eth0/carrier; do sleep 0.1; done");
  network!.device.setLink(true);
  await run("until grep -q 1 /sys/class/net/eth0/carrier; do sleep 0.1; done");
});
