/** `lodge disk` as a user meets it: the same commands to a machine of ours and to QEMU, whose tools judge the images. */

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempDisposableSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";
import { QmpClient } from "./qmp-client.ts";

const bin = join(import.meta.dirname, "../../bin/lodge.js");
const tools = ["gcc", "qemu-img", "qemu-io", "qemu-system-x86_64"];
const absent = tools.filter((name) => spawnSync(name, ["--version"]).error !== undefined);
const skip = absent.length > 0 && `${absent.join(", ")}: not installed`;

function run(program: string, ...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(program, args, { encoding: "utf8" });
  assert.equal(status, 0, `${program} ${args.join(" ")}: ${stdout}${stderr}`);
  return stdout;
}

interface Running {
  /** One for each of three clients. */
  sockets: readonly string[];
  pid: number;
}

/** A machine with one disk whose name is disk0; resolves when it listens. */
type Peer = (folder: string, disk: string) => Promise<Running>;

const peers: Record<string, Peer> = {
  "a machine of ours": async (folder, disk) => {
    const socket = join(folder, "qmp");
    // The vmm's kernel of a few instructions.
    const kernel = join(folder, "kernel");
    const source = join(import.meta.dirname, "../../../vmm/testing/obedient.S");
    run("gcc", source, "-o", kernel, "-nostdlib", "-static", "-no-pie", "-Wl,-N,-Ttext=0x100000");
    const what = ["--kernel", kernel, "--disk", `${disk},format=qcow2`, "--qmp", socket];
    const args = [bin, "run", "--accel", "soft", "--memory", "16M", "--serial", "none", "--json", ...what];
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
    await once(child.stdout, "data");
    child.stdout.resume();
    return { sockets: [socket, socket, socket], pid: child.pid! };
  },
  QEMU: async (folder, disk) => {
    // One client each.
    const sockets = ["qmp0", "qmp1", "qmp2"].map((name) => join(folder, name));
    const monitors = sockets.flatMap((socket) => ["-qmp", `unix:${socket},server=on,wait=off`]);
    const drive = `if=none,id=disk0,file=${disk},format=qcow2`;
    const machine = ["-M", "q35", "-accel", "tcg", "-m", "16", "-S", "-nodefaults", "-display", "none", "-daemonize"];
    const pidFile = join(folder, "pid");
    run("qemu-system-x86_64", ...machine, "-drive", drive, ...monitors, "-pidfile", pidFile);
    return { sockets, pid: Number(readFileSync(pidFile, "utf8")) };
  },
};

for (const [name, start] of Object.entries(peers)) {
  suite(`${name}: its disks from the command line`, { skip }, () => {
    const folder = mkdtempDisposableSync(join(tmpdir(), "lodge-disk-"));
    const at = (file: string) => join(folder.path, file);
    let socket = "";
    /** For what goes on while others are asked. */
    let second = "";
    const disk = (...args: string[]) =>
      spawnSync(process.execPath, [bin, "disk", ...args], { cwd: folder.path, encoding: "utf8" });
    const good = (action: string, ...args: string[]) => {
      const { status, stdout, stderr } = disk(action, socket, ...args);
      assert.equal(status, 0, `lodge disk ${action} ${args.join(" ")}: ${stderr}`);
      return stdout;
    };
    const inserted = () => JSON.parse(good("list", "--json")).disks[0].inserted;
    const same = (file: string) => run("qemu-img", "compare", "-q", "-U", "-F", "raw", at(file), at("expected.raw"));
    let sockets: readonly string[] = [];
    let pid = 0;
    let client: QmpClient;
    /** What waits for a job's state. */
    const states: [state: string, reached: () => void][] = [];
    const reaches = (state: string) => new Promise<void>((reached) => states.push([state, reached]));

    test.before(async () => {
      run("qemu-img", "create", "-q", "-f", "qcow2", at("base.qcow2"), "8M");
      run("qemu-io", "-c", "write -P 1 0 3M", at("base.qcow2"));
      run("qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", at("top.qcow2"));
      run("qemu-io", "-c", "write -P 2 2M 2M", at("top.qcow2"));
      run("qemu-img", "convert", "-O", "raw", at("top.qcow2"), at("expected.raw"));
      ({ sockets, pid } = await start(folder.path, at("top.qcow2")));
      [socket, second] = [sockets[0]!, sockets[1]!];
      client = await QmpClient.open(sockets[2]!, (event, { status }) => {
        if (event !== "JOB_STATUS_CHANGE") return;
        for (const [state, reached] of states) if (state === status) reached();
      });
    });

    test.after(async () => {
      try {
        await client.ask("quit");
        await client.ended;
      } catch (cause) {
        if (pid > 0) process.kill(pid, "SIGKILL");
        throw cause;
      } finally {
        folder.remove();
      }
    });

    test("what there is", () => {
      assert.match(good("list"), /^NAME +SIZE +FORMAT +FILE +JOB\ndisk0 +8 MiB +qcow2 +.*top\.qcow2\n$/);
    });

    test("a backup, and a copy that the disk goes on without", () => {
      good("backup", "disk0", "backup.qcow2", "-O", "qcow2");
      same("backup.qcow2");
      run("qemu-img", "create", "-q", "-f", "qcow2", at("copy.qcow2"), "8M");
      good("mirror", "disk0", "copy.qcow2", "-n", "-O", "qcow2");
      same("copy.qcow2");
      assert.equal(inserted().file, at("top.qcow2"));
    });

    test("a new image above, merged again, and one that the disk goes on with", () => {
      good("snapshot", "disk0", "above.qcow2");
      assert.deepEqual([inserted().file, inserted().backing_file_depth], [at("above.qcow2"), 2]);
      good("commit", "disk0", "--base", "top.qcow2");
      assert.deepEqual([inserted().file, inserted().backing_file_depth], [at("top.qcow2"), 1]);
      good("stream", "disk0");
      assert.equal(inserted().backing_file_depth, 0);
      good("mirror", "disk0", "moved.qcow2", "--pivot", "--synchronous", "-O", "qcow2");
      assert.equal(inserted().file, at("moved.qcow2"));
      same("moved.qcow2");
    });

    test("limits and size are changed while it runs", () => {
      good("limit", "disk0", "--iops", "100", "--bps", "1M");
      assert.deepEqual([inserted().iops, inserted().bps], [100, 1 << 20]);
      good("limit", "disk0");
      assert.deepEqual([inserted().iops, inserted().bps], [0, 0]);
      good("resize", "disk0", "16M");
      assert.equal(inserted().image["virtual-size"], 16 << 20);
    });

    test("a job is slowed, paused, and given up by a signal", async () => {
      // The events of the jobs before have come when this is answered.
      await client.ask("query-block-jobs");
      const running = reaches("running");
      const child = spawn(
        process.execPath,
        [bin, "disk", "backup", second, "disk0", "slow.raw", "-O", "raw", "--speed", "64k"],
        { cwd: folder.path, stdio: "ignore" },
      );
      const closed = once(child, "close");
      await running;
      const paused = reaches("paused");
      good("pause", "disk0");
      await paused;
      assert.match(good("list"), /backup, paused, \d+ %/);
      good("speed", "disk0", "128k");
      assert.equal(JSON.parse(good("list", "--json")).jobs[0].speed, 128 << 10);
      good("resume", "disk0");
      child.kill("SIGINT");
      assert.deepEqual(await closed, [130, null]);
      assert.deepEqual(JSON.parse(good("list", "--json")).jobs, []);
    });

    test("what cannot be is said in one line", () => {
      const refusals: [string[], RegExp][] = [
        [["pause", socket, "disk0"], /^lodge: .*disk0.*\n$/],
        [["backup", socket, "none", "x.raw"], /^lodge: .*none.*\n$/],
        [["mirror", socket, "disk0", "no/folder/x"], /^lodge: .*\n$/],
        [["list", `${socket}x`], /^lodge: .*no machine listens there.*\n$/],
      ];
      for (const [args, message] of refusals) {
        const { status, stderr } = disk(...args);
        assert.match(stderr, message);
        assert.equal(status, 1);
      }
    });
  });
}
