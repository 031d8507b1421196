/** Taps and macvtaps behind Debian's own driver. */

import assert from "node:assert/strict";
import { execFile, spawn, spawnSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { before, suite, test } from "node:test";
import { promisify } from "node:util";
import { Namespace, unshare } from "@lodge/linux";
import { noGuest } from "../testing/tiny-guest.ts";
import { parseNetwork } from "./configuration/networks.ts";
import { Machine } from "./machine.ts";

function command(...[program, ...args]: [string, ...string[]]): string {
  const { status, stdout, stderr, error } = spawnSync(program, args, { encoding: "utf8" });
  if (status !== 0) throw error ?? new Error(`${program} ${args.join(" ")}: ${stderr || stdout}`);
  return stdout;
}

const missing = ["ip", "unshare", "nsenter"].find((program) => spawnSync(program, ["-V"]).error !== undefined);
const noNetworks =
  process.getuid?.() !== 0 ? "networks are made as root" : missing !== undefined && `${missing} is not installed`;

suite("taps", { skip: noGuest || noNetworks }, () => {
  before(() => {
    unshare(Namespace.NEWNET | Namespace.NEWNS);
    command("mount", "--make-rprivate", "/");
    command("mount", "-t", "sysfs", "sysfs", "/sys");
    command("ip", "link", "set", "lo", "up");
  });

  test("a tap with a queue for each vCPU, and a macvtap: bulk both ways; both are gone with the machine", async () => {
    // Another host, which is there as long as this process of it.
    const keeper = spawn("unshare", ["-n", "sh", "-c", "echo there && exec cat"], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    using whenDone = new DisposableStack();
    whenDone.defer(() => {
      keeper.kill("SIGKILL");
    });
    await once(keeper.stdout, "data");
    // The guest's frames go through this process, which does not wait for it with its eyes closed.
    const far = async (...args: string[]) =>
      (await promisify(execFile)("nsenter", ["-t", String(keeper.pid), "-n", ...args])).stdout;
    command("ip", "link", "add", "lower", "type", "veth", "peer", "name", "eth0", "netns", String(keeper.pid));
    command("ip", "link", "set", "lower", "up");
    await far("ip", "link", "set", "eth0", "up");
    await far("ip", "address", "add", "192.168.9.1/24", "dev", "eth0");
    const data = randomBytes(2_000_000);
    const server = createServer((socket) => socket.end(data)).listen(0);
    await once(server, "listening");
    whenDone.defer(() => {
      server.close();
    });
    const { port } = server.address() as AddressInfo;
    {
      await using machine = await Machine.start({
        accel: "soft",
        memory: "256M",
        cpus: 2,
        networks: ["tap,ifname=lodge0,queues=2", "macvtap=lower"].map((net) => parseNetwork(net, "--net")!),
      });
      const run = async (script: string) => {
        const { stdout, stderr, status } = await machine.exec(["sh", "-c", script]);
        assert.equal(status, 0, stderr + stdout);
        return stdout;
      };
      command("ip", "address", "add", "10.0.9.1/24", "dev", "lodge0");
      command("ip", "link", "set", "lodge0", "up");
      await run("ip link set eth0 up; ip address add 10.0.9.15/24 dev eth0");
      await run("ip link set eth1 up; ip address add 192.168.9.15/24 dev eth1");
      // Both pairs are in use: each has interrupts of its own.
      assert.match(await run("ls /sys/class/net/eth0/queues"), /rx-1/);
      for (const cpu of [1, 2]) {
        const got = await run(`taskset ${cpu} nc 10.0.9.1 ${port} </dev/null | sha256sum`);
        assert.equal(got.split(" ")[0], createHash("sha256").update(data).digest("hex"));
      }
      assert.match(await run("ping -c 2 -s 1400 192.168.9.1"), / 0% packet loss/);
      assert.match(await far("ping", "-c", "2", "-i", "0.2", "192.168.9.15"), / 0% packet loss/);
    }
    assert.doesNotMatch(command("ip", "link"), /lodge/);
  });
});
