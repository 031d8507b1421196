/** QMP's commands and events of block jobs, external snapshots and dirty bitmaps. */

import type { BlockJob, JobErrorPolicy } from "@lodge/storage/jobs";
import type { AttachedDisk } from "../disks/attached-disk.ts";
import type { JobTold } from "../disks/disk-jobs.ts";
import type { Machine } from "../machine.ts";
import { type Arguments, type Command, diskOf, text, wholeNumber } from "./command.ts";
import { QmpError } from "./protocol.ts";

const JOB = ["job-id", "speed"];
const TARGET = [...JOB, "format", "mode", "on-source-error", "on-target-error"];

export const BLOCK_JOB_COMMANDS: Readonly<Record<string, Command>> = {
  "drive-mirror": {
    takes: ["device", "target", "sync"],
    may: [...TARGET, "granularity", "copy-mode"],
    run: (machine, args) =>
      begins(machine, args, (disk, common) =>
        disk.jobs.mirror({
          ...common,
          ...targetOf(args),
          sync: oneOf(args, "sync", ["full", "top", "none"]),
          mode: oneOf(args, "copy-mode", ["background", "write-blocking"], "background"),
          ...(args.granularity !== undefined && { granularity: wholeNumber(args.granularity, "granularity") }),
        }),
      ),
  },
  "drive-backup": {
    takes: ["device", "target", "sync"],
    may: [...TARGET, "bitmap", "bitmap-mode"],
    run: (machine, args) =>
      begins(machine, args, (disk, common) => {
        const sync = oneOf(args, "sync", ["full", "top", "incremental", "bitmap"]);
        const bitmapMode = oneOf(args, "bitmap-mode", ["on-success", "never", "always"], "on-success");
        return disk.jobs.backup({
          ...common,
          ...targetOf(args),
          sync: sync === "bitmap" ? "incremental" : sync,
          ...(args.bitmap !== undefined && { bitmap: text(args, "bitmap"), bitmapMode }),
        });
      }),
  },
  "block-stream": {
    takes: ["device"],
    may: [...JOB, "base", "on-error"],
    run: (machine, args) =>
      begins(machine, args, (disk, common) =>
        disk.jobs.stream({ ...common, ...(args.base !== undefined && { base: text(args, "base") }) }),
      ),
  },
  "block-commit": {
    takes: ["device"],
    may: [...JOB, "base", "top", "on-error"],
    run: (machine, args) =>
      begins(
        machine,
        args,
        (disk, common) =>
          disk.jobs.commit({
            ...common,
            ...(args.base !== undefined && { base: text(args, "base") }),
            ...(args.top !== undefined && { top: text(args, "top") }),
          }),
        "DeviceNotFound",
      ),
  },
  "blockdev-snapshot-sync": {
    takes: ["device", "snapshot-file"],
    may: ["format", "mode"],
    run: async (machine, args) => {
      await snapshot(machine, args);
      return {};
    },
  },
  "query-block-jobs": {
    takes: [],
    run: ({ disks }) => disks.flatMap(({ jobs }) => (jobs.current === undefined ? [] : [jobInfo(jobs.current)])),
  },
  "block-job-pause": onJob([], (job) => job.pause()),
  "block-job-resume": onJob([], (job) => job.resume()),
  "block-job-complete": onJob([], (job) => job.complete()),
  "block-job-cancel": onJob(["force"], (job, { force = false }) => {
    if (typeof force !== "boolean") throw new QmpError("Parameter 'force' expects true or false");
    job.cancel({ force });
  }),
  "block-job-set-speed": {
    ...onJob([], (job, { speed }) => {
      job.speed = wholeNumber(speed, "speed");
    }),
    takes: ["device", "speed"],
  },
  "block-dirty-bitmap-add": onBitmap(["granularity", "persistent", "disabled"], ({ bitmaps }, name, args) => {
    const { granularity, persistent = false, disabled = false } = args;
    return bitmaps.add(name, {
      persistent: persistent === true,
      disabled: disabled === true,
      ...(granularity !== undefined && { granularity: wholeNumber(granularity, "granularity") }),
    });
  }),
  "block-dirty-bitmap-remove": onBitmap([], ({ bitmaps }, name) => bitmaps.remove(name)),
  "block-dirty-bitmap-clear": onBitmap([], ({ bitmaps }, name) => bitmaps.clear(name)),
  "block-dirty-bitmap-enable": onBitmap([], ({ bitmaps }, name) => bitmaps.enable(name, true)),
  "block-dirty-bitmap-disable": onBitmap([], ({ bitmaps }, name) => bitmaps.enable(name, false)),
  "block-dirty-bitmap-merge": {
    takes: ["node", "target", "bitmaps"],
    run: async (machine, args) => {
      const names = args.bitmaps;
      if (!Array.isArray(names) || !names.every((name) => typeof name === "string")) {
        throw new QmpError("Parameter 'bitmaps' expects a list of names");
      }
      await diskOf(machine, args.node, "GenericError").bitmaps.merge(text(args, "target"), names);
      return {};
    },
  },
};

/** A disk goes on in a new image; returns what takes that back while the disk is held. */
export function snapshot(machine: Machine, args: Arguments): Promise<() => Promise<void>> {
  if (args.format !== undefined && args.format !== "qcow2") {
    throw new QmpError("Parameter 'format' expects qcow2: nothing else has a backing file");
  }
  const existing = oneOf(args, "mode", ["absolute-paths", "existing"], "absolute-paths") === "existing";
  return diskOf(machine, args.device, "GenericError").jobs.snapshot(text(args, "snapshot-file"), { existing });
}

async function begins(
  machine: Machine,
  args: Arguments,
  start: (disk: AttachedDisk, common: { id: string; speed?: number; onError: JobErrorPolicy }) => Promise<BlockJob>,
  refusal: "GenericError" | "DeviceNotFound" = "GenericError",
): Promise<object> {
  const disk = diskOf(machine, args.device, refusal);
  const id = args["job-id"] === undefined ? String(args.device) : text(args, "job-id");
  if (machine.disks.some(({ jobs }) => jobs.current?.id === id)) throw new QmpError(`Job ID '${id}' already in use`);
  const policies = ["on-error", "on-source-error", "on-target-error"].filter((name) => args[name] !== undefined);
  const actions = new Set(policies.map((name): JobErrorPolicy => oneOf(args, name, ["report", "stop"])));
  if (actions.size > 1) throw new QmpError("on-source-error and on-target-error are the same here");
  const [onError = "report" as const] = actions;
  await start(disk, { id, onError, ...(args.speed !== undefined && { speed: wholeNumber(args.speed, "speed") }) });
  return {};
}

function targetOf(args: Arguments): { target: string; format?: string; existing: boolean } {
  return {
    target: text(args, "target"),
    ...(args.format !== undefined && { format: text(args, "format") }),
    existing: oneOf(args, "mode", ["absolute-paths", "existing"], "absolute-paths") === "existing",
  };
}

function onJob(may: readonly string[], act: (job: BlockJob, args: Arguments) => void): Command {
  return {
    takes: ["device"],
    may,
    run: ({ disks }, args) => {
      const job = disks.map(({ jobs }) => jobs.current).find((one) => one?.id === args.device);
      if (job === undefined) throw new QmpError(`Block job '${args.device}' not found`, "DeviceNotActive");
      act(job, args);
      return {};
    },
  };
}

function onBitmap(
  may: readonly string[],
  act: (disk: AttachedDisk, name: string, args: Arguments) => Promise<void>,
): Command {
  return {
    takes: ["node", "name"],
    may,
    run: async (machine, args) => {
      await act(diskOf(machine, args.node, "GenericError"), text(args, "name"), args);
      return {};
    },
  };
}

function oneOf<T extends string>(args: Arguments, name: string, known: readonly T[], otherwise?: T): T {
  const value = args[name] ?? otherwise;
  const found = known.find((one) => one === value);
  if (found !== undefined) return found;
  throw new QmpError(`Parameter '${name}' does not accept value '${value}': there is ${known.join(", ")}`);
}

function jobInfo({ id, kind, state, speed, progress, error }: BlockJob): object {
  return {
    type: kind,
    device: id,
    len: progress.totalBytes,
    offset: progress.doneBytes,
    busy: state === "running" || state === "pending",
    paused: state === "paused" || state === "standby",
    speed,
    "io-status": error === undefined ? "ok" : "failed",
    ready: state === "ready" || state === "standby",
    status: state,
    "auto-finalize": true,
    "auto-dismiss": true,
  };
}

export function jobEvents(told: JobTold): { name: string; data: object }[] {
  const { id, kind, state, doneBytes, totalBytes, speed, message, operation, action } = told;
  const data = { type: kind, device: id, len: totalBytes, offset: doneBytes, speed };
  switch (told.happened) {
    case "state":
      return [{ name: "JOB_STATUS_CHANGE", data: { id, status: state } }];
    case "error":
      return [{ name: "BLOCK_JOB_ERROR", data: { device: id, operation, action } }];
    case "ready":
      return [{ name: "BLOCK_JOB_READY", data }];
    case "cancelled":
      return [{ name: "BLOCK_JOB_CANCELLED", data }];
    case "completed":
      return [{ name: "BLOCK_JOB_COMPLETED", data }];
    case "failed":
      return [{ name: "BLOCK_JOB_COMPLETED", data: { ...data, error: message } }];
  }
}
