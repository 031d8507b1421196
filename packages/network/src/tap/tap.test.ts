/** A tap of this process's network, with Linux as the guest behind the port: two kernels, and frames with offloads between them. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { before, suite, test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { Descriptor, OpenFlag, open } from "@lodge/linux";
import { KernelGuest } from "../../testing/kernel-guest.ts";
import { command, enterOwnNetwork, noNetworks } from "../../testing/namespaces.ts";
import { openTap } from "./open.ts";
import { TapPort } from "./port.ts";

const CLIENT = join(import.meta.dirname, "../../testing/client.ts");

suite("tap", { skip: noNetworks }, () => {
  before(() => enterOwnNetwork());

  for (const offloads of [true, false]) {
    test(`frames go both ways ${offloads ? "with" : "without"} offloads, and the tap is gone afterwards`, async () => {
      {
        using port = TapPort.open("lodge0");
        assert.equal(port.name, "lodge0");
        await using guest = await KernelGuest.make(port, { offloads });
        command("ip", "address", "add", "10.0.2.2/24", "dev", "lodge0");
        command("ip", "link", "set", "lodge0", "up");
        await guest.configure();
        const data = Buffer.alloc(8 << 20, "through the tap ");
        let uploaded = 0;
        const server = createServer({ allowHalfOpen: true }, (socket) => {
          socket.on("data", (part: Buffer) => {
            uploaded += part.length;
          });
          socket.end(data);
        }).listen(0, "10.0.2.2");
        await once(server, "listening");
        const { port: number } = server.address() as AddressInfo;
        const run = async (job: string, count: number) =>
          JSON.parse(await guest.host.do(process.execPath, CLIENT, job, "10.0.2.2", String(number), String(count)));
        const sha256 = createHash("sha256").update(data).digest("hex");
        assert.deepEqual(await run("download", 1), [{ bytes: data.length, sha256 }]);
        assert.equal((await run("upload", 8)).sha256, sha256);
        assert.equal(uploaded, 8 << 20);
        server.close();
        await once(server, "close");
      }
      assert.throws(() => command("ip", "link", "show", "lodge0"), /does not exist/);
    });
  }

  /** Sends datagrams of eight flows to whoever is behind a device. */
  async function sendFlows(to: string): Promise<void> {
    for (let flow = 0; flow < 8; flow++) {
      const socket = createSocket("udp4");
      await new Promise((sent) => socket.send("x", 9, to, sent));
      socket.close();
    }
  }

  test("several queues: flows are spread over those that the guest uses, and come back by the one that they went out by", async () => {
    using port = TapPort.open("lodge0", 3);
    command("ip", "address", "add", "10.0.3.2/24", "dev", "lodge0");
    command("ip", "link", "set", "lodge0", "up");
    command("ip", "neigh", "add", "10.0.3.15", "lladdr", "52:54:00:00:00:01", "dev", "lodge0");
    const heard: { queue: number | undefined; port: number }[] = [];
    const isDatagram = (frame: Uint8Array) => frame[12] === 8 && frame[13] === 0 && frame[23] === 17;
    port.connect({
      takes: { checksum: false, tcp4: false, tcp6: false },
      receive: (frame, _, queue) => {
        if (isDatagram(frame)) heard.push({ queue, port: (frame[34]! << 8) | frame[35]! });
        return true;
      },
    });
    const flows = async () => {
      heard.length = 0;
      await sendFlows("10.0.3.15");
      while (heard.length < 8) await setImmediate();
      return heard.map(({ queue }) => queue);
    };
    port.usePairs(1);
    assert.deepEqual(new Set(await flows()), new Set([0]));
    port.usePairs(3);
    while (new Set(await flows()).size < 2);
    // By one queue a guest speaks to a port of ours; what it is answered comes by the same.
    const socket = createSocket("udp4").bind(0, "10.0.3.2");
    await once(socket, "listening");
    for (const queue of [0, 1, 2, 1]) {
      heard.length = 0;
      port.transmit(datagramTo(socket.address().port), undefined, queue);
      const [, { port: from }] = await once(socket, "message");
      socket.send("back", from, "10.0.3.15");
      while (heard.length === 0) await setImmediate();
      assert.deepEqual(heard, [{ queue, port: socket.address().port }]);
    }
    socket.close();
  });

  test("taps that somebody else opened, and what is none", async () => {
    const opened = openTap("lodge1", 2);
    const fds = opened.files.map(({ fd }) => fd);
    {
      using port = TapPort.adopt(fds);
      assert.deepEqual([port.name, port.queues, port.mac], ["lodge1", 2, undefined]);
      await using guest = await KernelGuest.make(port);
      command("ip", "address", "add", "10.0.2.2/24", "dev", "lodge1");
      command("ip", "link", "set", "lodge1", "up");
      await guest.configure();
      assert.match(await guest.host.do("ping", "-c", "2", "-i", "0.1", "10.0.2.2"), /2 received/);
    }
    assert.throws(() => command("ip", "link", "show", "lodge1"), /does not exist/);

    const refused = (numbers: number[], message: RegExp) =>
      assert.throws(() => TapPort.adopt(numbers), { code: "NETWORK_CONFIG", message });
    using one = openTap("lodge2").files[0]!;
    using other = openTap("lodge3", 2).files[0]!;
    using another = openTap("lodge4", 2).files[0]!;
    using none = new Descriptor(open("/dev/null", OpenFlag.RDWR));
    refused([none.fd], /it is no tap/);
    refused([9999], /^tap of descriptor 9999: nothing is open there/);
    refused([one.fd, other.fd], /has to be opened with IFF_MULTI_QUEUE/);
    refused([other.fd, another.fd], /lodge3 and lodge4 are two devices/);
    refused([other.fd, other.fd], /one stands there twice/);
    assert.equal(command("ip", "-o", "link", "show", "type", "tun").trim().split("\n").length, 3);
  });

  test("what cannot be is said in one line", () => {
    command("ip", "link", "add", "notap", "type", "veth", "peer", "name", "other");
    assert.throws(() => TapPort.open("notap"), {
      code: "NETWORK_HOST",
      message: /^tap notap: there is a device of that name that is no tap$/,
    });
    using _taken = TapPort.open("taken");
    assert.throws(() => TapPort.open("taken"), { code: "NETWORK_HOST", message: "tap taken: another program has it" });
    assert.throws(() => TapPort.open("notap", 2), { code: "NETWORK_HOST", message: /no tap of several queues/ });
    command("ip", "tuntap", "add", "several", "mode", "tap", "multi_queue");
    TapPort.open("several")[Symbol.dispose]();
    command("ip", "link", "del", "several");
    assert.throws(() => TapPort.open("a name with blanks"), { code: "NETWORK_CONFIG" });
  });
});

/** From 10.0.3.15, port 5000, to a port of 10.0.3.2; UDP needs no checksum. */
function datagramTo(port: number): Uint8Array {
  const frame = Buffer.from(
    "ffffffffffff5254000000010800" + "4500001d00000000401100000a00030f0a000302" + "13880000000900002a",
    "hex",
  );
  frame.writeUInt16BE(port, 36);
  let sum = 0;
  for (let at = 14; at < 34; at += 2) sum += frame.readUInt16BE(at);
  frame.writeUInt16BE(~((sum & 0xffff) + (sum >> 16)) & 0xffff, 24);
  return frame;
}
