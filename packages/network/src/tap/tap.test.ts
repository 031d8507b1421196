/** A tap of this process's network, with Linux as the guest behind the port: two kernels, and frames with offloads between them. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { before, suite, test } from "node:test";
import { KernelGuest } from "../../testing/kernel-guest.ts";
import { command, enterOwnNetwork, noNetworks } from "../../testing/namespaces.ts";
import { TapPort } from "./port.ts";

const CLIENT = join(import.meta.dirname, "../../testing/client.ts");

suite("tap", { skip: noNetworks }, () => {
  before(enterOwnNetwork);

  for (const offloads of [true, false]) {
    test(`frames go both ways ${offloads ? "with" : "without"} offloads, and the tap is gone afterwards`, async () => {
      {
        using port = new TapPort("lodge0");
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

  test("what cannot be is said in one line", () => {
    command("ip", "link", "add", "notap", "type", "veth", "peer", "name", "other");
    assert.throws(() => new TapPort("notap"), {
      code: "NETWORK_HOST",
      message: /^tap notap: there is a device of that name that is no tap$/,
    });
    using _taken = new TapPort("taken");
    assert.throws(() => new TapPort("taken"), { code: "NETWORK_HOST", message: "tap taken: another program has it" });
    assert.throws(() => new TapPort("a name with blanks"), { code: "NETWORK_CONFIG" });
  });
});
