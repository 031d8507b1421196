/** Frames in datagrams, with QEMU's `-netdev dgram` at the other end. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { existsSync, mkdtempDisposableSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { KernelGuest } from "../../testing/kernel-guest.ts";
import { enterOwnNetwork, lacks } from "../../testing/namespaces.ts";
import { DatagramPort, parseDatagramPlace } from "./port.ts";

const NOBODY = { checksum: false, tcp4: false, tcp6: false };
const place = parseDatagramPlace;

for (const kind of ["inet", "unix"] as const) {
  test(`two ends by ${kind}: frames come whole, also when there was no room; others are not heard`, async () => {
    using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-dgram-"));
    const at = (name: string, port: number) =>
      place(kind === "unix" ? `unix:${join(folder.path, name)}` : `127.0.0.1:${port}`);
    const [here, there] = [at("here", 47011), at("there", 47012)];
    using one = new DatagramPort(here, there);
    // Nobody is there yet.
    one.transmit(new Uint8Array(60));
    using other = new DatagramPort(there, here);
    assert.throws(() => new DatagramPort(here, there), {
      code: "NETWORK_HOST",
      message: /^cannot receive at .*: it is/,
    });
    let hasRoom = false;
    let wake = () => {};
    const got: number[] = [];
    other.connect({
      takes: NOBODY,
      receive: (frame) => {
        if (hasRoom) got.push(frame[0]!, frame.length);
        wake();
        return hasRoom;
      },
    });
    const event = () =>
      new Promise<void>((resolve) => {
        wake = resolve;
      });
    const asked = event();
    if (kind === "inet") {
      const stranger = createSocket("udp4").unref();
      await new Promise((resolve) => stranger.send(new Uint8Array(60).fill(99), 47012, "127.0.0.1", resolve));
      stranger.close();
    }
    for (let number = 1; number <= 5; number++) one.transmit(new Uint8Array(1514).fill(number));
    await asked;
    hasRoom = true;
    other.room();
    while (got.length < 10) await event();
    assert.deepEqual(got, [1, 1514, 2, 1514, 3, 1514, 4, 1514, 5, 1514]);
    one[Symbol.dispose]();
    if ("path" in here) assert.equal(existsSync(here.path), false);
  });
}

test("places that are none are refused", () => {
  for (const text of ["127.0.0.1", "host:1", "[::1]", "unix:", "127.0.0.1:0", "127.0.0.1:70000"]) {
    assert.throws(() => place(text), { code: "NETWORK_CONFIG" }, text);
  }
  assert.throws(() => new DatagramPort(place("127.0.0.1:4000"), place("unix:/x")), { code: "NETWORK_CONFIG" });
  assert.throws(() => new DatagramPort(place("127.0.0.1:4000"), place("[::1]:4000")), { code: "NETWORK_CONFIG" });
  assert.throws(() => new DatagramPort(place("192.0.2.1:4000"), place("192.0.2.2:1")), {
    message: /does not have that/,
  });
});

for (const kind of ["inet", "unix"] as const) {
  test(`QEMU's -netdev dgram is the other end, by ${kind}`, { skip: lacks("qemu-system-x86_64", "ping") }, async () => {
    if (kind === "inet") enterOwnNetwork();
    using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-dgram-"));
    const [ours, theirs] = [join(folder.path, "ours"), join(folder.path, "theirs")];
    const sockets =
      kind === "unix"
        ? `local.type=unix,local.path=${theirs},remote.type=unix,remote.path=${ours}`
        : "local.type=inet,local.host=127.0.0.1,local.port=4000,remote.type=inet,remote.host=127.0.0.1,remote.port=4001";
    using port =
      kind === "unix"
        ? new DatagramPort({ path: ours }, { path: theirs })
        : new DatagramPort(place("127.0.0.1:4001"), place("127.0.0.1:4000"));
    const qemu = spawn("qemu-system-x86_64", [
      ...["-M", "none", "-display", "none", "-netdev", `dgram,id=s,${sockets}`],
      ...[
        "-netdev",
        "user,id=u",
        "-netdev",
        "hubport,id=a,hubid=0,netdev=s",
        "-netdev",
        "hubport,id=b,hubid=0,netdev=u",
      ],
    ]);
    try {
      await using guest = await KernelGuest.make(port, { offloads: false });
      await guest.configure();
      // It answers when it is there.
      await guest.host.do("sh", "-c", "until ping -c 1 -W 0.2 10.0.2.2; do :; done");
      assert.match(await guest.host.do("ping", "-c", "5", "-i", "0.1", "10.0.2.2"), /5 received/);
    } finally {
      qemu.kill("SIGKILL");
      await once(qemu, "close");
    }
  });
}
