/** Two machines on a named network: they find each other by name, and one loads from the other. */

import assert from "node:assert/strict";
import { mkdirSync, mkdtempDisposableSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { switchStatus, writeNetwork } from "@lodge/network";
import { noGuest } from "../testing/tiny-guest.ts";
import { parseNetwork } from "./configuration/networks.ts";
import { Machine } from "./machine.ts";

test("two machines of one network ping and load from each other, by name", { skip: noGuest }, async () => {
  using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-machines-"));
  process.env.XDG_RUNTIME_DIR = join(folder.path, "run");
  process.env.XDG_CONFIG_HOME = join(folder.path, "config");
  mkdirSync(process.env.XDG_RUNTIME_DIR, { mode: 0o700 });
  writeNetwork({ name: "lab", mode: "isolated", network: "10.78.3.0/24", network6: "fd00:10:78:3::/64" });
  const start = (name: string) =>
    Machine.start({ accel: "soft", memory: "256M", name, networks: [parseNetwork("switch=lab", "--net")!] });
  await using one = await start("one");
  await using two = await start("two");
  const run = async (machine: Machine, script: string) => {
    const { stdout, stderr, status } = await machine.exec(["sh", "-c", script]);
    assert.equal(status, 0, stderr + stdout);
    return stdout;
  };
  await run(two, "true");
  assert.match(await run(one, "ping -c 2 two.lodge.internal"), /2 packets received/);
  await run(two, "mkdir /srv; yes lodge | head -c 4000000 >/srv/page; httpd -h /srv");
  const [kept, loaded] = await Promise.all([
    run(two, "md5sum </srv/page"),
    run(one, "wget -O /tmp/page http://two.lodge.internal/page && md5sum </tmp/page"),
  ]);
  assert.equal(loaded, kept);
  const { ports } = (await switchStatus("lab"))!;
  assert.deepEqual(ports.map(({ name }) => name).toSorted(), ["one", "two"]);
  assert.ok(ports.every(({ counters }) => counters.framesIn > 0 && counters.bytesOut > 0));
});
