/** `lodge net` as a user meets it. */

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempDisposableSync, readdirSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { after, suite, test } from "node:test";
import { SwitchClient } from "@lodge/network";

const bin = join(import.meta.dirname, "../../bin/lodge.js");
const noTshark = spawnSync("tshark", ["--version"]).error === undefined ? false : "tshark is not installed";

suite("lodge net", () => {
  const folder = mkdtempDisposableSync(join(tmpdir(), "lodge-net-"));
  after(() => folder.remove());
  process.env.XDG_CONFIG_HOME = folder.path;
  process.env.XDG_RUNTIME_DIR = join(folder.path, "run");
  mkdirSync(process.env.XDG_RUNTIME_DIR, { mode: 0o700 });

  const net = (...args: string[]) => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [bin, "net", ...args], { encoding: "utf8" });
    return { status, stdout, stderr };
  };
  const good = (...args: string[]) => {
    const { status, stdout, stderr } = net(...args);
    assert.equal(stderr, "");
    assert.equal(status, 0);
    return stdout;
  };

  test("networks are made, listed, shown while machines are on them, and forgotten", async () => {
    good("create", "lab");
    good("create", "inner", "--mode", "bare", "--mtu", "9000");
    const [inner, lab] = JSON.parse(good("list", "--json"));
    assert.deepEqual(inner, { name: "inner", mode: "bare", mtu: 9000, machines: 0 });
    assert.match(lab.network, /^10\.78\.\d+\.0\/24$/);
    assert.match(good("list"), /^NAME +MODE +NETWORK +MACHINES\ninner +bare +- +0\nlab +nat +10\.78\.\d+\.0\/24 +0\n$/);
    assert.match(good("show", "inner"), /^mode: bare\nmtu: 9000\nname: inner\nno machine is on it\n$/);
    {
      using one = await SwitchClient.join({ network: "inner", mac: "52:54:00:00:00:01", name: "one", vlan: 10 });
      assert.equal(one.mtu, 9000);
      one.transmit(Uint8Array.from([...Array(6).fill(0xff), 0x52, 0x54, 0, 0, 0, 1, 8, 6, 0, 0]));
      while (JSON.parse(good("show", "inner", "--json")).ports[0].counters.framesIn === 0);
      assert.match(
        good("show", "inner"),
        /one {2}52:54:00:00:00:01\n {2}VLAN 10\n {2}sent 1 frames, 16 bytes; received 0/,
      );
      const refused = net("rm", "inner");
      assert.deepEqual(refused.stderr, "lodge: network inner is in use, by a machine; end it first\n");
      assert.equal(refused.status, 2);
    }
    while (/served by/.test(good("show", "inner")));
    good("rm", "inner");
    good("rm", "lab");
    assert.deepEqual(JSON.parse(good("list", "--json")), []);
    assert.deepEqual(readdirSync(join(process.env.XDG_RUNTIME_DIR!, "lodge")), []);
  });

  test("ports are led into a network while machines are on it, and for later", async () => {
    good("create", "fwd", "--network", "10.78.40.0/24");
    {
      using _one = await SwitchClient.join({ network: "fwd", mac: "52:54:00:00:00:01" });
      const taken = createServer().listen(0, "127.0.0.1");
      await once(taken, "listening");
      const { port } = taken.address() as AddressInfo;
      const forward = `tcp:127.0.0.1:${port}-10.78.40.15:80`;
      assert.match(net("forward", "fwd", "--add", forward).stderr, /the port is taken/);
      taken.close();
      await once(taken, "close");
      good("forward", "fwd", "--add", forward);
      assert.equal(good("forward", "fwd"), `${forward}\n`);
      const caller = connect(port, "127.0.0.1");
      await once(caller, "connect");
      caller.destroy();
      good("forward", "fwd", "--remove", forward);
      await assert.rejects(once(connect(port, "127.0.0.1"), "connect"), { code: "ECONNREFUSED" });
      assert.equal(good("forward", "fwd"), "");
      assert.match(net("forward", "fwd", "--remove", forward).stderr, /network fwd has no forward tcp:/);
      assert.match(net("forward", "fwd", "--add", "tcp::1-:2").stderr, /to which machine\?/);
    }
    while (/served by/.test(good("show", "fwd")));
    good("rm", "fwd");
  });

  test("a capture begins with the first machine and can be read by tshark", { skip: noTshark }, async () => {
    good("create", "lab", "--mode", "bare");
    const dump = spawn(process.execPath, [bin, "net", "dump", "lab"], { stdio: ["ignore", "pipe", "inherit"] });
    const closed = once(dump, "close");
    const head = once(dump.stdout, "readable");
    await head;
    const captured = buffer(dump.stdout);
    using one = await SwitchClient.join({ network: "lab", mac: "52:54:00:00:00:01" });
    for (let number = 0; number < 3; number++) {
      one.transmit(
        Buffer.from("ffffffffffff5254000000010806000108000604000152540000000100000000000000000000c0a80101", "hex"),
      );
    }
    while (JSON.parse(good("show", "lab", "--json")).ports[0].counters.framesIn < 3);
    dump.kill("SIGINT");
    assert.deepEqual(await closed, [0, null]);
    const file = join(folder.path, "lab.pcap");
    writeFileSync(file, await captured);
    const { stdout } = spawnSync("tshark", ["-r", file], { encoding: "utf8" });
    assert.equal(stdout.match(/Who has 192\.168\.1\.1/g)?.length, 3);
  });

  for (const [args, line] of [
    [["show", "nowhere"], "there is no network nowhere; make it: lodge net create nowhere"],
    [["dump", "nowhere"], "there is no network nowhere; make it: lodge net create nowhere"],
    [["rm", "nowhere"], "there is no network nowhere; make it: lodge net create nowhere"],
    [["create", "a/b"], 'network "a/b": a name is 1 to 32 letters, digits, hyphens and underscores'],
    [["create", "x", "--network", "10.0.0.0/30"], "network 10.0.0.0/30: it has 8 to 27 bits, such as 10.0.2.0/24"],
    [["create", "x", "--mode", "bare", "--network", "10.0.0.0/24"], "network x is bare: it has no addresses"],
    [
      ["create", "x", "--bridge", "--loopback"],
      "network x has a bridge: ports and the host's loopback address lead into one without only",
    ],
    [
      ["create", "x", "--bridge", "--mode", "bare"],
      "network x: a bare one with a bridge is a bridge; make it and use bridge=NAME",
    ],
    [["create", "x", "--mtu", "9"], "an MTU of 9: 1280 to 65520 are possible"],
    [
      ["create", "x", "--network", "10.9.0.0/24", "--forward", "tcp::1-:2"],
      "tcp::1-:2: to which machine? tcp:127.0.0.1:8080-10.9.0.15:80",
    ],
    [
      ["create", "x", "--network", "10.9.0.0/24", "--forward", "tcp::1-10.8.0.1:2"],
      "tcp::1-10.8.0.1:2: no machine of 10.9.0.0/24 has that address",
    ],
  ] as const) {
    test(`lodge net ${args.join(" ")}: one line and status 2`, () => {
      assert.deepEqual(net(...args), { status: 2, stdout: "", stderr: `lodge: ${line}\n` });
    });
  }
});
