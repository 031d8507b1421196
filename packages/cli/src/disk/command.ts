/** `lodge disk`: the disks of a running machine, by its QMP socket; of QEMU's as well. */

import { resolve } from "node:path";
import { isNbdUri } from "@lodge/storage/nbd";
import { Command, Option } from "commander";
import { parseDiskSize, parseSize, showSize, wholeNumber } from "../image/size.ts";
import { table } from "../table.ts";
import { follow, percentOf } from "./follow.ts";
import { QmpClient } from "./qmp-client.ts";

export function diskCommand(): Command {
  const disk = new Command("disk").description("the disks of a running machine: lodge run --qmp SOCKET");
  const makers = [list, mirror, backup, stream, commit, snapshot, resize, limit, speed];
  for (const make of makers) disk.addCommand(make());
  for (const [name, text] of Object.entries(JOB_ACTIONS)) disk.addCommand(onJob(name, text));
  return disk;
}

/** A command of one disk of the machine behind a socket. */
function ofDisk(name: string, description: string): Command {
  return new Command(name)
    .description(description)
    .argument("<socket>", "where the machine speaks QMP")
    .argument("<disk>", "its name: see lodge disk list")
    .allowExcessArguments(false);
}

const speedOption = () => new Option("--speed <bytes>", "a second at most").argParser(parseSize);
/** The machine may run in another folder. */
const place = (name: string) => (isNbdUri(name) ? name : resolve(name));

interface TargetFlags {
  format?: string;
  /** False with --no-create. */
  create: boolean;
  speed?: number;
}

function withTarget(command: Command): Command {
  return command
    .argument("<target>", "an image, a block device or an NBD address")
    .option("-O, --format <format>", "the target's format; the disk's unless it is given")
    .option("-n, --no-create", "write into a target that is there already")
    .addOption(speedOption());
}

const targetOf = (target: string, { format, create, speed }: TargetFlags) => ({
  target: place(target),
  mode: create ? "absolute-paths" : "existing",
  ...(format !== undefined && { format }),
  ...(speed !== undefined && { speed }),
});

function mirror(): Command {
  return withTarget(ofDisk("mirror", "copy a disk while it is used, until both are the same"))
    .option("--pivot", "and let the machine go on with the copy")
    .option("--synchronous", "have each write end in both, so that it gets ready however fast the guest writes")
    .option("--top", "copy only what the disk's first image holds itself")
    .action(async (socket, disk, target, flags) => {
      const sync = flags.top ? "top" : "full";
      const args = {
        ...targetOf(target, flags),
        sync,
        ...(flags.synchronous && { "copy-mode": "write-blocking" }),
      };
      const whenReady = flags.pivot ? "block-job-complete" : "block-job-cancel";
      process.exitCode = await follow({ socket, disk, command: "drive-mirror", args, whenReady });
    });
}

function backup(): Command {
  return withTarget(ofDisk("backup", "copy a disk as it is at this moment, while it is used"))
    .option("-B, --bitmap <name>", "only what was written since this bitmap began, which begins anew then")
    .action(async (socket, disk, target, flags) => {
      const sync = flags.bitmap === undefined ? { sync: "full" } : { sync: "incremental", bitmap: flags.bitmap };
      const args = { ...targetOf(target, flags), ...sync };
      process.exitCode = await follow({ socket, disk, command: "drive-backup", args, whenReady: "block-job-complete" });
    });
}

function stream(): Command {
  return ofDisk("stream", "have the disk's first image hold what it has from those below")
    .option("-b, --base <file>", "only from those above this image of the chain")
    .addOption(speedOption())
    .action(async (socket, disk, { base, speed }) => {
      const args = { ...(base !== undefined && { base: place(base) }), ...(speed !== undefined && { speed }) };
      process.exitCode = await follow({ socket, disk, command: "block-stream", args, whenReady: "block-job-complete" });
    });
}

function commit(): Command {
  return ofDisk("commit", "write images of the disk's chain into one below, which the disk goes on with")
    .option("-t, --top <file>", "from this image of the chain on (default: the first)")
    .option("-b, --base <file>", "into this one (default: the last)")
    .addOption(speedOption())
    .action(async (socket, disk, { top, base, speed }) => {
      const args = {
        ...(top !== undefined && { top: place(top) }),
        ...(base !== undefined && { base: place(base) }),
        ...(speed !== undefined && { speed }),
      };
      process.exitCode = await follow({ socket, disk, command: "block-commit", args, whenReady: "block-job-complete" });
    });
}

function snapshot(): Command {
  return ofDisk("snapshot", "let the machine go on in a new image above the one that it has")
    .argument("<file>", "the new qcow2 image")
    .option("-n, --no-create", "it is there already")
    .action(async (socket, disk, file, { create }) => {
      const mode = create ? "absolute-paths" : "existing";
      const args = { device: disk, "snapshot-file": place(file), format: "qcow2", mode };
      await once(socket, "blockdev-snapshot-sync", args);
    });
}

function resize(): Command {
  return ofDisk("resize", "give a disk another size, which the guest is told of")
    .argument("<size>", "its size from now on", parseDiskSize)
    .action(async (socket, disk, size) => {
      await once(socket, "block_resize", { device: disk, size });
    });
}

function limit(): Command {
  return ofDisk("limit", "limit what a disk does in a second; what is not given is not limited")
    .option("--bps <size>", "bytes", parseSize, 0)
    .option("--iops <n>", "operations", wholeNumber(0, 1e12), 0)
    .action(async (socket, disk, { bps, iops }) => {
      const none = { bps_rd: 0, bps_wr: 0, iops_rd: 0, iops_wr: 0 };
      await once(socket, "block_set_io_throttle", { device: disk, bps, iops, ...none });
    });
}

function speed(): Command {
  return ofDisk("speed", "say how many bytes a second a disk's job may copy")
    .argument("<bytes>", "0 is any number", parseSize)
    .action(async (socket, disk, bytes) => {
      await once(socket, "block-job-set-speed", { device: disk, speed: bytes });
    });
}

const JOB_ACTIONS = {
  pause: "pause a disk's job",
  resume: "go on with a disk's job",
  cancel: "give up a disk's job",
} as const;

function onJob(name: string, description: string): Command {
  return ofDisk(name, description).action(async (socket, disk) => {
    await once(socket, `block-job-${name}`, { device: disk });
  });
}

async function once(socket: string, command: string, args?: object): Promise<unknown> {
  using client = await QmpClient.open(socket, () => {});
  return await client.ask(command, args);
}

/** What of query-block and query-block-jobs is shown. */
interface BlockInfo {
  device: string;
  inserted?: { file: string; drv: string; ro: boolean; image: { "virtual-size": number } };
}
interface JobInfo {
  device: string;
  type: string;
  status: string;
  len: number;
  offset: number;
}

function list(): Command {
  return new Command("list")
    .description("list a machine's disks, and what jobs work on them")
    .argument("<socket>", "where the machine speaks QMP")
    .option("--json", "print what the machine says as JSON")
    .allowExcessArguments(false)
    .action(async (socket: string, { json }: { json?: true }) => {
      using client = await QmpClient.open(socket, () => {});
      const disks = (await client.ask("query-block")) as BlockInfo[];
      const jobs = (await client.ask("query-block-jobs")) as JobInfo[];
      if (json) return console.log(JSON.stringify({ disks, jobs }, undefined, 2));
      const rows = [["NAME", "SIZE", "FORMAT", "FILE", "JOB"]];
      for (const { device, inserted } of disks) {
        if (inserted === undefined) continue;
        const job = jobs.find((one) => one.device === device);
        const done = job && `${job.type}, ${job.status}, ${percentOf(job)}`;
        const { drv, file, image } = inserted;
        rows.push([device, showSize(image["virtual-size"]), drv, file, done ?? ""]);
      }
      console.log(table(rows).join("\n"));
    });
}
