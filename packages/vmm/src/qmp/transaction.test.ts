/** Transactions of disks: the same ones to a machine of ours and to QEMU, with the same disks and bitmaps after each. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempDisposableSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";
import { assemble, noKernel, OBEDIENT } from "../../testing/kernel.ts";
import { Client, type Message } from "../../testing/qmp-client.ts";
import { Machine } from "../machine.ts";

const MIB = 1 << 20;
const noQemu =
  spawnSync("qemu-system-x86_64", ["--version"]).error === undefined ? false : "qemu-system-x86_64 is not installed";

function run(program: string, ...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(program, args, { encoding: "utf8" });
  assert.equal(status, 0, `${program} ${args.join(" ")}: ${stdout}${stderr}`);
  return stdout;
}

/** Begins a machine with two disks, disk0 and disk1, that speaks QMP at `qmp` in the folder. */
type Peer = (folder: string) => Promise<AsyncDisposable>;

const peers: Record<string, Peer> = {
  "a machine of ours": (folder) =>
    Machine.start({
      accel: "soft",
      memory: "16M",
      kernel: assemble(OBEDIENT, folder, "kernel"),
      disks: [{ file: join(folder, "one.qcow2") }, { file: join(folder, "two.qcow2") }],
      console: () => {},
      qmp: join(folder, "qmp"),
    }),
  QEMU: async (folder) => {
    const at = (name: string) => join(folder, name);
    const drives = ["one", "two"].flatMap((name, index) => [
      "-drive",
      `if=none,id=disk${index},file=${at(name)}.qcow2,format=qcow2`,
    ]);
    const machine = ["-M", "q35", "-accel", "tcg", "-m", "16", "-S", "-nodefaults", "-display", "none", "-daemonize"];
    const monitor = ["-qmp", `unix:${at("qmp")},server=on,wait=off`, "-pidfile", at("pid")];
    run("qemu-system-x86_64", ...machine, ...drives, ...monitor);
    const pid = Number(readFileSync(at("pid"), "utf8"));
    return {
      [Symbol.asyncDispose]: async () => {
        process.kill(pid);
        // It is no child of ours, and writes to its disks until it is gone.
        run("tail", `--pid=${pid}`, "--sleep-interval=0.05", "-f", "/dev/null");
      },
    };
  },
};

for (const [name, start] of Object.entries(peers)) {
  suite(`transactions: ${name}`, { skip: noKernel || noQemu }, () => {
    test("all of it happens, or none", async () => {
      using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-transaction-"));
      const at = (file: string) => join(folder.path, file);
      for (const disk of ["one", "two"]) {
        run("qemu-img", "create", "-q", "-f", "qcow2", at(`${disk}.qcow2`), "8M");
        run("qemu-img", "bitmap", "--add", at(`${disk}.qcow2`), "kept");
        run("qemu-io", "-c", "write -P 1 1M 3M", at(`${disk}.qcow2`));
        run("qemu-img", "convert", "-O", "raw", at(`${disk}.qcow2`), at(`${disk}.raw`));
      }
      await using _ = await start(folder.path);
      const client = await Client.connect(at("qmp"));
      await client.answer();
      await client.ask("qmp_capabilities");

      /** Each disk's image, how many are below it, and its bitmaps with their bytes. */
      const state = async () =>
        ((await client.ask("query-block")).return as Message[]).map((disk) => {
          const inserted = disk.inserted as Message;
          const bitmaps = ((inserted["dirty-bitmaps"] ?? []) as Message[])
            .map(({ name, count, recording, persistent }) => ({ name, count, recording, persistent }))
            .sort((one, other) => (String(one.name) < String(other.name) ? -1 : 1));
          return { file: inserted.file, depth: inserted.backing_file_depth, bitmaps };
        });
      const transact = (...actions: [type: string, data: object][]) =>
        client.ask("transaction", { actions: actions.map(([type, data]) => ({ type, data })) });
      const bitmap = (what: string, disk: number, name: string, more = {}): [string, object] => [
        `block-dirty-bitmap-${what}`,
        { node: `disk${disk}`, [what === "merge" ? "target" : "name"]: name, ...more },
      ];
      const snapshot = (disk: number, file: string): [string, object] => [
        "blockdev-snapshot-sync",
        { device: `disk${disk}`, "snapshot-file": at(file), format: "qcow2" },
      ];
      const backup = (disk: number, file: string, more = {}): [string, object] => [
        "drive-backup",
        { device: `disk${disk}`, target: at(file), sync: "full", format: "qcow2", ...more },
      ];
      const kept = { name: "kept", count: 3 * MIB, recording: true, persistent: true };
      const extra = { name: "extra", count: 3 * MIB, recording: false, persistent: true };
      const first = { depth: 0, bitmaps: [kept] };
      const beginning = [
        { file: at("one.qcow2"), ...first },
        { file: at("two.qcow2"), ...first },
      ];
      assert.deepEqual(await state(), beginning);
      const refused = async (message: RegExp, ...actions: [string, object][]) => {
        const before = await state();
        const { error } = (await transact(...actions)) as { error: Message };
        assert.match(String(error.desc), message);
        assert.deepEqual(await state(), before);
      };
      const done = async (...actions: [string, object][]) =>
        assert.deepEqual(await transact(...actions), { return: {} });

      const everything = [
        bitmap("clear", 0, "kept"),
        bitmap("add", 0, "extra", { persistent: true }),
        bitmap("disable", 1, "kept"),
        snapshot(0, "gone0.qcow2"),
        snapshot(1, "gone1.qcow2"),
        bitmap("add", 1, "above", { persistent: true }),
      ];
      await refused(/aborted/i, ...everything, ["abort", {}]);
      await refused(/none/, ...everything, bitmap("clear", 0, "none"));
      await refused(/cannot|could not/i, bitmap("remove", 1, "kept"), snapshot(0, "no/folder.qcow2"));

      await done(
        bitmap("add", 0, "extra", { persistent: true }),
        bitmap("merge", 0, "extra", { bitmaps: ["kept"] }),
        bitmap("disable", 0, "extra"),
        bitmap("clear", 0, "kept"),
      );
      assert.deepEqual((await state())[0]!.bitmaps, [extra, { ...kept, count: 0 }]);
      // A bitmap that is being removed is in use, or not known any more.
      await refused(/extra/, bitmap("remove", 0, "extra"), bitmap("enable", 0, "extra"));

      // Backups of one moment, from which on the bitmaps count anew.
      // (A backup stands in QEMU between a disk's name and its bitmaps: those come first.)
      await done(bitmap("clear", 1, "kept"), backup(0, "backup0.qcow2"), backup(1, "backup1.qcow2"));
      const ended = [await client.event("BLOCK_JOB_COMPLETED"), await client.event("BLOCK_JOB_COMPLETED")] as Message[];
      assert.deepEqual(ended.map(({ device }) => device).sort(), ["disk0", "disk1"]);
      assert.ok(ended.every(({ error }) => error === undefined));
      for (const [index, disk] of ["one", "two"].entries()) {
        run("qemu-img", "compare", "-q", at(`backup${index}.qcow2`), at(`${disk}.raw`));
      }
      await refused(/none/, backup(0, "gone.qcow2", { speed: 1 }), bitmap("clear", 1, "none"));
      assert.deepEqual((await client.ask("query-block-jobs")).return, []);

      await done(
        snapshot(0, "above0.qcow2"),
        snapshot(1, "above1.qcow2"),
        bitmap("add", 1, "above", { persistent: true }),
      );
      const above = { name: "above", count: 0, recording: true, persistent: true };
      assert.deepEqual(await state(), [
        { file: at("above0.qcow2"), depth: 1, bitmaps: [] },
        { file: at("above1.qcow2"), depth: 1, bitmaps: [above] },
      ]);
      if (name !== "QEMU") {
        for (const gone of ["gone0", "gone1"]) assert.ok(!existsSync(at(`${gone}.qcow2`)));
        const grouped = { actions: [], properties: { "completion-mode": "grouped" } };
        const { error } = (await client.ask("transaction", grouped)) as { error: Message };
        assert.match(String(error.desc), /individual/);
      }
    });
  });
}
