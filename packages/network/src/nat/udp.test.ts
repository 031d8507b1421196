/** How long the sockets of a guest's datagrams live (RFC 4787, REQ-5), and how many there are. */

import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { test } from "node:test";
import { ManualClock } from "../../testing/script.ts";
import { Ethernet, EtherType, putEthernet } from "../packet/ethernet.ts";
import { IpProtocol, putIp } from "../packet/ip.ts";
import { udpPayload } from "../packet/udp.ts";
import { Nat } from "./nat.ts";

const GATEWAY_MAC = Uint8Array.of(0x52, 0x55, 10, 0, 2, 2);
const GUEST_MAC = Uint8Array.of(0x52, 0x54, 0, 0x12, 0x34, 0x56);
const GUEST = Uint8Array.of(10, 0, 2, 15);
const GATEWAY = Uint8Array.of(10, 0, 2, 2);

function datagram(sourcePort: number, port: number): Uint8Array {
  const payload = udpPayload(GUEST, sourcePort, GATEWAY, port, Buffer.from("hello"));
  const at = Ethernet.LENGTH + 20;
  const frame = new Uint8Array(at + payload.length);
  putEthernet(frame, GATEWAY_MAC, GUEST_MAC, EtherType.IPV4);
  putIp(frame, Ethernet.LENGTH, {
    source: GUEST,
    destination: GATEWAY,
    protocol: IpProtocol.UDP,
    length: payload.length,
  });
  frame.set(payload, at);
  return frame;
}

/** A NAT whose gateway leads to a socket of this process's. */
async function connected() {
  const clock = new ManualClock();
  const nat = new Nat({ loopback: true, clock });
  nat.connect({ receive: () => true, takes: { checksum: true, tcp4: true, tcp6: true } });
  const server = createSocket("udp4");
  server.bind(0, "127.0.0.1");
  await once(server, "listening");
  const { sockets } = nat.status;
  return {
    clock,
    nat,
    /** Sends from so many ports of the guest's, and waits until the last came out. */
    send: async (first: number, count = 1) => {
      const last = new Promise<void>((resolve) => {
        let left = count;
        server.on("message", function got() {
          left -= 1;
          if (left > 0) return;
          server.off("message", got);
          resolve();
        });
      });
      for (let port = first; port < first + count; port++) nat.transmit(datagram(port, server.address().port));
      await last;
    },
    counts: () => [nat.status.udp, nat.status.sockets - sockets],
    [Symbol.dispose]: () => {
      server.close();
      nat[Symbol.dispose]();
    },
  };
}

test("a port's socket is kept for three minutes after its last use, and is gone then", async () => {
  using world = await connected();
  await world.send(4000);
  await world.send(4001);
  assert.deepEqual(world.counts(), [2, 2]);
  world.clock.pass(170_000);
  await world.send(4000);
  assert.deepEqual(world.counts(), [2, 2]);
  world.clock.pass(20_000);
  assert.deepEqual(world.counts(), [1, 1], "the one that was used goes on");
  world.clock.pass(170_000);
  assert.deepEqual(world.counts(), [0, 0]);
});

test("a guest that uses more ports than there may be has no more sockets, and none when it begins anew", async () => {
  using world = await connected();
  await world.send(5000, 64);
  for (let first = 5064; first < 6100; first += 64) await world.send(first, 64);
  assert.deepEqual(world.counts(), [1024, 1024]);
  world.nat.reset();
  assert.deepEqual(world.counts(), [0, 0]);
});
