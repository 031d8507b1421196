/** Block jobs as clients of QMP order them, with QEMU's tools as the judges of the images. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempDisposableSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { assemble, noKernel, OBEDIENT, Transcript } from "../../testing/kernel.ts";
import { Client, type Message } from "../../testing/qmp-client.ts";
import { Machine } from "../machine.ts";

const noQemu = spawnSync("qemu-img", ["--version"]).error === undefined ? false : "qemu-img is not installed";

function run(program: string, ...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(program, args, { encoding: "utf8" });
  assert.equal(status, 0, `${program} ${args.join(" ")}: ${stdout}${stderr}`);
  return stdout;
}

test("jobs, bitmaps and snapshots from begin to end", { skip: noKernel || noQemu }, async () => {
  using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-qmp-jobs-"));
  const at = (name: string) => join(folder.path, name);
  run("qemu-img", "create", "-q", "-f", "qcow2", at("base.qcow2"), "8M");
  run("qemu-io", "-c", "write -P 1 0 3M", at("base.qcow2"));
  run("qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", at("top.qcow2"));
  run("qemu-io", "-c", "write -P 2 2M 2M", at("top.qcow2"));
  run("qemu-img", "convert", "-O", "raw", at("top.qcow2"), at("expected.raw"));
  const same = (image: string, format: string) =>
    run("qemu-img", "compare", "-q", "-U", "-f", format, "-F", "raw", at(image), at("expected.raw"));
  const transcript = new Transcript();
  await using machine = await Machine.start({
    accel: "soft",
    memory: "16M",
    kernel: assemble(OBEDIENT, folder.path, "kernel"),
    disks: [{ file: at("top.qcow2") }],
    console: transcript.write,
    qmp: at("qmp"),
  });
  await transcript.until("boot\n");
  const client = await Client.connect(at("qmp"));
  await client.answer();
  await client.ask("qmp_capabilities");
  const does = async (name: string, args: object) =>
    assert.deepEqual(await client.ask(name, args), { return: {} }, `${name} ${JSON.stringify(args)}`);
  const refuses = async (name: string, args: object, message: RegExp, errorClass = "GenericError") => {
    const { error } = (await client.ask(name, args)) as { error: { class: string; desc: string } };
    assert.match(error.desc, message);
    assert.equal(error.class, errorClass);
  };
  const inserted = async () => ((await client.ask("query-block")).return as Message[])[0]!.inserted as Message;
  const device = "disk0";

  await does("block-dirty-bitmap-add", { node: device, name: "kept", persistent: true, granularity: 4096 });
  await does("block-dirty-bitmap-add", { node: device, name: "passing" });
  await does("block-dirty-bitmap-disable", { node: device, name: "passing" });
  assert.deepEqual((await inserted())["dirty-bitmaps"], [
    { name: "passing", granularity: 65536, persistent: false, busy: false, recording: false, count: 0 },
    { name: "kept", granularity: 4096, persistent: true, busy: false, recording: true, count: 0 },
  ]);

  // A backup that is slowed until it can be looked at.
  await does("drive-backup", { device, target: at("backup.qcow2"), sync: "full", speed: 1, bitmap: "kept" });
  await does("block-job-pause", { device });
  const [job] = (await client.ask("query-block-jobs")).return as Message[];
  assert.deepEqual(
    [job!.type, job!.device, job!.len, job!.speed, job!.paused, job!.ready, job!.status],
    ["backup", device, 8 << 20, 1, true, false, "paused"],
  );
  await refuses("block-job-complete", { device }, /cannot be completed: it is paused/);
  await refuses(
    "drive-mirror",
    { device, "job-id": "other", target: at("x"), sync: "full" },
    /in use by the block job backup/,
  );
  await refuses("block-stream", { device }, /Job ID 'disk0' already in use/);
  await refuses("block_resize", { device, size: 16 << 20 }, /its size stays while it is in use/);
  await refuses("block-job-pause", { device: "none" }, /Block job 'none' not found/, "DeviceNotActive");
  await refuses("block-dirty-bitmap-clear", { node: device, name: "kept" }, /a block job works with it/);
  await does("block-job-set-speed", { device, speed: 0 });
  await does("block-job-resume", { device });
  assert.deepEqual(await client.event("BLOCK_JOB_COMPLETED"), {
    ...{ type: "backup", device, len: 8 << 20, offset: 8 << 20, speed: 0 },
  });
  same("backup.qcow2", "qcow2");

  // One that is given up.
  await does("drive-backup", {
    device,
    target: at("gone.raw"),
    format: "raw",
    sync: "full",
    speed: 1,
    "job-id": "gone",
  });
  await does("block-job-cancel", { device: "gone" });
  assert.equal(((await client.event("BLOCK_JOB_CANCELLED")) as Message).device, "gone");

  // The disk goes on in another file, then in a new one on that, which is merged again.
  await does("drive-mirror", { device, target: at("mirror.qcow2"), sync: "full", "copy-mode": "write-blocking" });
  assert.equal(((await client.event("BLOCK_JOB_READY")) as Message).type, "mirror");
  await does("block-job-complete", { device });
  await client.event("BLOCK_JOB_COMPLETED");
  assert.equal((await inserted()).file, at("mirror.qcow2"));
  assert.equal(machine.disks[0]!.file, at("mirror.qcow2"));
  await does("blockdev-snapshot-sync", { device, "snapshot-file": at("snapshot.qcow2"), format: "qcow2" });
  const above = await inserted();
  assert.deepEqual(
    [above.file, above.backing_file, above.backing_file_depth],
    [at("snapshot.qcow2"), at("mirror.qcow2"), 1],
  );
  await does("block-commit", { device, speed: 0 });
  await client.event("BLOCK_JOB_READY");
  await does("block-job-complete", { device });
  assert.equal(((await client.event("BLOCK_JOB_COMPLETED")) as Message).type, "commit");
  assert.equal((await inserted()).file, at("mirror.qcow2"));
  await does("blockdev-snapshot-sync", { device, "snapshot-file": at("again.qcow2") });
  await does("block-stream", { device });
  await client.event("BLOCK_JOB_COMPLETED");
  assert.equal((await inserted()).backing_file_depth, 0);
  await refuses("drive-mirror", { device, target: at("x"), sync: "full", mode: "existing" }, /shall be there already/);
  await machine.stop();
  same("again.qcow2", "qcow2");
  for (const image of ["mirror", "again", "top", "backup"]) run("qemu-img", "check", "-q", at(`${image}.qcow2`));
  const { bitmaps } = JSON.parse(run("qemu-img", "info", "--output=json", at("top.qcow2")))["format-specific"].data;
  assert.deepEqual(bitmaps, [{ flags: ["auto"], name: "kept", granularity: 4096 }]);
});
