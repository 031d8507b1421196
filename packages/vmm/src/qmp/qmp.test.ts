/** QMP by a socket, as clients speak it, beside QEMU's own: what it answers has the same form. */

import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempDisposableSync, truncateSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";
import { assemble, noKernel, OBEDIENT, Transcript } from "../../testing/kernel.ts";
import { Client, type Message } from "../../testing/qmp-client.ts";
import { Machine } from "../machine.ts";

const noQemu =
  spawnSync("qemu-system-x86_64", ["--version"]).error === undefined ? false : "qemu-system-x86_64 is not installed";

/** The names in an answer and the kinds of their values, as far as `like` has them too. */
function form(value: unknown, like: unknown): unknown {
  if (Array.isArray(value) && Array.isArray(like)) {
    return value.length > 0 && like.length > 0 ? [form(value[0], like[0])] : "list";
  }
  if (typeof value !== "object" || value === null || typeof like !== "object" || like === null) return typeof value;
  const names = Object.keys(value).filter((name) => name in like);
  return Object.fromEntries(
    names.toSorted().map((name) => [name, form((value as Message)[name], (like as Message)[name])]),
  );
}

suite("QMP", { skip: noKernel }, () => {
  const folder = mkdtempDisposableSync(join(tmpdir(), "lodge-qmp-"));
  const at = (name: string) => join(folder.path, name);
  test.after(() => folder.remove());

  async function begin() {
    const transcript = new Transcript();
    writeFileSync(at("disk"), "");
    truncateSync(at("disk"), 1 << 20);
    const machine = await Machine.start({
      accel: "soft",
      name: "spoken-to",
      memory: "16M",
      cpus: { count: 2, cores: 2 },
      kernel: assemble(OBEDIENT, folder.path, "kernel"),
      disks: [{ file: at("disk"), readonly: true }],
      console: transcript.write,
      qmp: at("qmp"),
    });
    await transcript.until("boot\n");
    const client = await Client.connect(at("qmp"));
    assert.ok("QMP" in (await client.answer()));
    assert.deepEqual(await client.ask("qmp_capabilities"), { return: {} });
    return { machine, transcript, client, [Symbol.asyncDispose]: () => machine.stop() };
  }

  test("a machine is asked, paused, reset, and quits; every client hears of it", async () => {
    await using run = await begin();
    const { client } = run;
    const other = await Client.connect(at("qmp"));
    await other.answer();
    await other.ask("qmp_capabilities");
    const status = async () => ((await client.ask("query-status")).return as Message).status;
    assert.equal(await status(), "running");
    assert.deepEqual(await client.ask("query-name"), { return: { name: "spoken-to" } });
    const vcpus = (await client.ask("query-cpus-fast")).return as Message[];
    assert.deepEqual(
      vcpus.map(({ props }) => props),
      [0, 1].map((core) => ({ "socket-id": 0, "core-id": core, "thread-id": 0 })),
    );
    for (const { "thread-id": thread } of vcpus) assert.ok(existsSync(`/proc/self/task/${thread}`));

    assert.deepEqual(await client.ask("stop"), { return: {} });
    await client.event("STOP");
    assert.equal(await status(), "paused");
    await client.ask("cont");
    await client.event("RESUME");
    assert.equal(await status(), "running");
    await client.ask("system_powerdown");
    await client.event("POWERDOWN");
    await run.transcript.until("button\n");
    await client.ask("system_reset");
    assert.deepEqual(await client.event("RESET"), { guest: false, reason: "host-qmp-system-reset" });
    await run.transcript.until("boot\n");
    run.machine.type("r");
    assert.deepEqual(await client.event("RESET"), { guest: true, reason: "guest-reset" });
    await run.transcript.until("boot\n");
    assert.deepEqual(await client.ask("balloon", { value: 8 << 20 }), { return: {} });
    // The guest has no driver that would give its memory away.
    assert.deepEqual(await client.ask("query-balloon"), { return: { actual: 16 << 20 } });

    assert.deepEqual(await client.ask("quit"), { return: {} });
    for (const one of [client, other]) {
      assert.deepEqual(await one.event("SHUTDOWN"), { guest: false, reason: "host-qmp-quit" });
      await one.end();
    }
    assert.deepEqual(await run.machine.ended, { reason: "stopped" });
    await run.machine.stop();
    assert.equal(existsSync(at("qmp")), false);
  });

  test("a guest that panics or switches itself off is told of", async () => {
    for (const [typed, name, data] of [
      ["p", "GUEST_PANICKED", { action: "poweroff" }],
      ["o", undefined, undefined],
    ] as const) {
      await using run = await begin();
      run.machine.type(typed);
      if (name !== undefined) assert.deepEqual(await run.client.event(name), data);
      const reason = typed === "p" ? "guest-panic" : "guest-shutdown";
      assert.deepEqual(await run.client.event("SHUTDOWN"), { guest: true, reason });
    }
  });

  test("requests however cut, several at once, and what is none", async () => {
    await using run = await begin();
    const { client } = run;
    for (const byte of '\n{"execute": "query-status", "id": {"a": "}\\"{"}}') client.send(byte);
    assert.deepEqual((await client.answer()).id, { a: '}"{' });
    client.send('{"execute":"query-name","id":1}{"execute":"query-name","id":2} {"execute":"nonsense","id":3}');
    assert.deepEqual([(await client.answer()).id, (await client.answer()).id], [1, 2]);
    assert.deepEqual(await client.answer(), {
      error: { class: "CommandNotFound", desc: "The command nonsense has not been found" },
      id: 3,
    });
    for (const wrong of ["[1]", "{]}", "}", "hello", "[".repeat(100), '{"execute":1}', '{"execute":"stop","x":1}']) {
      client.send(wrong);
      assert.equal(((await client.answer()).error as Message).class, "GenericError", wrong);
      // The rest of what was refused is refused, too, or nothing.
      client.send('\n{"execute":"query-name","id":"next"}');
      let answer = await client.answer();
      while (answer.id !== "next") answer = await client.answer();
      assert.ok("return" in answer, wrong);
    }
    for (const args of [{ value: 0 }, { value: "1" }, { value: 1.5 }, {}, { value: 1, more: 1 }]) {
      assert.ok("error" in (await client.ask("balloon", args)), JSON.stringify(args));
    }
    assert.ok("error" in (await client.ask("toString")));
    // One that floods is parted with; the machine and the others go on.
    const flood = await Client.connect(at("qmp"));
    flood.send('{"execute":"query-name"}'.repeat(5000));
    await flood.end();
    assert.ok("return" in (await client.ask("query-status")));
  });

  test("a socket's file that somebody uses is refused, one that nobody does is replaced", async () => {
    await using run = await begin();
    const again = (qmp: string) =>
      Machine.start({ accel: "soft", memory: "16M", kernel: assemble(OBEDIENT, folder.path, "again"), qmp });
    await assert.rejects(again(at("qmp")), { code: "VMM_CONFIG", message: /QMP socket .*: there is such a file/ });
    await assert.rejects(again(at("disk")), { code: "VMM_CONFIG" });
    assert.ok(existsSync(at("disk")));
    assert.ok("return" in (await run.client.ask("query-status")));
    // Node removes the file of a server that is closed; a process that is killed leaves it.
    const script = `require("net").createServer().listen(${JSON.stringify(at("left"))}, () => process.kill(process.pid, 9))`;
    spawnSync(process.execPath, ["-e", script]);
    assert.ok(existsSync(at("left")));
    await using machine = await again(at("left"));
    (await Client.connect(at("left"))).close();
    assert.equal(machine.state, "running");
  });

  test("a card's cable is pulled, and ports are led into its guest, while it runs", async () => {
    await using run = await begin();
    const { client, machine } = run;
    const [card] = machine.networks;
    assert.deepEqual(await client.ask("set_link", { name: "net0", up: false }), { return: {} });
    assert.equal(card!.device.linkUp, false);
    assert.deepEqual(await client.ask("set_link", { name: "net0", up: true }), { return: {} });
    assert.equal(card!.device.linkUp, true);
    assert.equal(((await client.ask("set_link", { name: "net0", up: 1 })).error as Message).class, "GenericError");

    const say = async (line: string) => (await client.ask("human-monitor-command", { "command-line": line })).return;
    const taken = createServer().listen(0, "127.0.0.1");
    await once(taken, "listening");
    const { port } = taken.address() as AddressInfo;
    assert.match(String(await say(`hostfwd_add net0 tcp::${port}-:80`)), /the port is taken/);
    taken.close();
    await once(taken, "close");
    assert.equal(await say(`hostfwd_add net0 tcp::${port}-:80`), "");
    assert.match(String(await say(`hostfwd_add tcp::${port}-:80`)), /is forwarded already/);
    assert.match(
      String(await say("info usernet")),
      new RegExp(`^net0: 0 TCP .*\r\n {2}tcp:127.0.0.1:${port}-:80 \\(port ${port}\\)`),
    );
    const caller = connect(port, "127.0.0.1");
    await once(caller, "connect");
    caller.destroy();
    assert.equal(
      await say(`hostfwd_remove tcp:127.0.0.1:${port}`),
      `host forwarding rule for tcp:127.0.0.1:${port} removed\r\n`,
    );
    assert.equal(await say(`hostfwd_remove net0 tcp::${port}`), `host forwarding rule for tcp::${port} not found\r\n`);
    await assert.rejects(once(connect(port, "127.0.0.1"), "connect"), { code: "ECONNREFUSED" });
    assert.match(String(await say("hostfwd_add net0 80")), /write tcp:127/);
    assert.match(String(await say("hostfwd_add net7 tcp::1-:1")), /net7 is no card with NAT/);
    assert.match(String(await say("savevm x")), /unknown command: 'savevm'/);
  });

  test("answers and refusals have the form of QEMU's", { skip: noQemu }, async () => {
    await using run = await begin();
    const path = at("qemu");
    const qemu: ChildProcess = spawn(
      "qemu-system-x86_64",
      [
        ...["-S", "-accel", "tcg", "-m", "16M", "-smp", "2,cores=2", "-nodefaults", "-display", "none", "-name", "x"],
        ...["-qmp", `unix:${path}`, "-device", "virtio-balloon-pci"],
        ...[
          "-drive",
          `if=none,id=disk0,format=raw,read-only=on,file=${at("disk")}`,
          "-device",
          "virtio-blk-pci,drive=disk0",
        ],
        ...["-netdev", "user,id=net0", "-device", "virtio-net-pci,netdev=net0"],
      ],
      { stdio: "ignore" },
    );
    const exited = once(qemu, "exit");
    try {
      // Without server=on it calls us, so nobody has to look when it is there.
      const server = createServer().listen(path);
      const [socket] = (await once(server, "connection")) as [Socket];
      server.close();
      const theirs = new Client(socket);
      const ours = await Client.connect(at("qmp"));
      const [greeting, their] = [await ours.answer(), await theirs.answer()];
      assert.deepEqual(form(greeting, their), form(their, greeting));
      for (const [name, args] of [
        ["query-status", undefined],
        ["qmp_capabilities", undefined],
        ["qmp_capabilities", undefined],
        ["query-version", undefined],
        ["query-status", undefined],
        ["query-name", undefined],
        ["query-kvm", undefined],
        ["query-cpus-fast", undefined],
        ["query-block", undefined],
        ["query-balloon", undefined],
        ["query-commands", undefined],
        ["query-status", { x: 1 }],
        ["balloon", {}],
        ["balloon", { value: "1" }],
        ["block_set_io_throttle", { device: "disk0", bps: 0, bps_rd: 0, bps_wr: 0, iops: 50, iops_rd: 0, iops_wr: 0 }],
        ["block_set_io_throttle", { device: "disk9", bps: 0, bps_rd: 0, bps_wr: 0, iops: 50, iops_rd: 0, iops_wr: 0 }],
        ["block_set_io_throttle", { device: "disk0" }],
        ["block_resize", { device: "disk0", size: 1 << 21 }],
        ["block_resize", { device: "disk9", size: 1 << 21 }],
        ["set_link", { name: "net0", up: false }],
        ["set_link", { name: "net9", up: false }],
        ["set_link", { name: "net0" }],
        ["set_link", { name: "net0", up: "on" }],
        ["human-monitor-command", { "command-line": "hostfwd_add net0 tcp:127.0.0.1:0-:80" }],
        ["human-monitor-command", { "command-line": "hostfwd_remove net0 tcp:127.0.0.1:1" }],
        ["human-monitor-command", {}],
        ["query-block-jobs", undefined],
        ["block-job-pause", { device: "disk0" }],
        ["block-job-set-speed", { device: "disk0", speed: 1 }],
        ["block-stream", { device: "disk9" }],
        ["block-commit", { device: "disk9" }],
        ["drive-mirror", { device: "disk9", target: "/nowhere/x", sync: "full" }],
        ["drive-backup", { device: "disk0", target: "/nowhere/x", sync: "full" }],
        ["blockdev-snapshot-sync", { device: "disk0", "snapshot-file": "/nowhere/x" }],
        ["block-dirty-bitmap-add", { node: "disk0", name: "since", granularity: 4096 }],
        ["block-dirty-bitmap-add", { node: "disk0", name: "since" }],
        ["block-dirty-bitmap-add", { node: "disk0", name: "kept", persistent: true }],
        ["block-dirty-bitmap-disable", { node: "disk0", name: "since" }],
        ["block-dirty-bitmap-merge", { node: "disk0", target: "since", bitmaps: ["none"] }],
        ["query-block", undefined],
        ["block-dirty-bitmap-remove", { node: "disk0", name: "since" }],
        ["block-dirty-bitmap-clear", { node: "disk0", name: "since" }],
        ["nonsense", undefined],
        ["cont", undefined],
        ["stop", undefined],
        ["system_powerdown", undefined],
      ] as const) {
        const [answer, theirAnswer] = [await ours.ask(name, args), await theirs.ask(name, args)];
        assert.deepEqual(form(answer, theirAnswer), form(theirAnswer, answer), name);
        const { error, desc } = { error: answer.error as Message, desc: (theirAnswer.error as Message)?.class };
        if (error !== undefined) assert.equal(error.class, desc, name);
        // Everything that is ours is theirs, too.
        if (name !== "query-commands") assertWithin(answer, theirAnswer, name);
      }
      assert.deepEqual(run.machine.disks[0]!.limits, { iops: 50 });
      const commands = (answer: Message) => (answer.return as Message[]).map((one) => one.name);
      const known = commands(await theirs.ask("query-commands"));
      for (const name of commands(await ours.ask("query-commands"))) assert.ok(known.includes(name), String(name));
      await theirs.ask("quit");
    } finally {
      qemu.kill();
      await exited;
    }
  });
});

/** Every name of an answer stands in the other, at its place. */
function assertWithin(value: unknown, other: unknown, where: string): void {
  if (Array.isArray(value) && Array.isArray(other)) assertWithin(value[0], other[0], `${where}[0]`);
  else if (typeof value === "object" && value !== null) {
    for (const [name, one] of Object.entries(value)) {
      assert.ok(Object.hasOwn(other as Message, name), `QEMU's ${where} has no ${name}`);
      assertWithin(one, (other as Message)[name], `${where}.${name}`);
    }
  }
}
