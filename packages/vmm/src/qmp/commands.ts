/** QMP's commands and events, as far as a machine has them: names, arguments and answers are those of QEMU's QAPI schema. */

import type { BitmapState } from "@lodge/storage";
import { isDirect, writesThrough } from "@lodge/storage/terms";
import type { AttachedDisk } from "../disks/attached-disk.ts";
import type { LifeEvent, MachineEnd } from "../life.ts";
import type { Machine } from "../machine.ts";
import { BLOCK_JOB_COMMANDS, jobEvents } from "./block-jobs.ts";
import { type Arguments, type Command, checkNames, diskOf, wholeNumber } from "./command.ts";
import { HOTPLUG_COMMANDS } from "./hotplug.ts";
import { NETWORK_COMMANDS } from "./network.ts";
import { QmpError, VERSION } from "./protocol.ts";
import { transaction } from "./transaction.ts";

/** What block_set_io_throttle limits; a limit of one direction alone is refused. */
const THROTTLE = ["bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"] as const;

const COMMANDS: Readonly<Record<string, Command>> = {
  ...NETWORK_COMMANDS,
  "query-version": asks(() => VERSION),
  "query-name": asks(({ name }) => (name === undefined ? {} : { name })),
  "query-kvm": asks(({ accelerator }) => ({
    enabled: accelerator.kind === "kvm",
    present: accelerator.kind === "kvm",
  })),
  "query-commands": asks(() => commandNames().map((name) => ({ name }))),
  "query-status": asks(({ state }) => ({
    status: state === "ended" ? "shutdown" : state,
    running: state === "running",
    singlestep: false,
  })),
  "query-cpus-fast": asks(({ vcpus }) =>
    vcpus.map(({ threadId, socket, core, thread }, index) => ({
      "cpu-index": index,
      "thread-id": threadId,
      "qom-path": `/machine/vcpu[${index}]`,
      target: "x86_64",
      props: { "socket-id": socket, "core-id": core, "thread-id": thread },
    })),
  ),
  "query-block": asks(({ disks }) => Promise.all(disks.map(blockInfo))),
  "query-balloon": asks(({ memoryBytes, balloonBytes }) => ({ actual: memoryBytes - balloonBytes })),
  stop: tells((machine) => machine.pause()),
  cont: tells((machine) => machine.resume()),
  system_powerdown: tells((machine) => machine.shutDown()),
  // The answer says that the button was pressed; the event, that the guest begins anew.
  system_reset: tells((machine) => void machine.reset()),
  // The answer goes out before its connection is closed with the machine.
  quit: tells((machine) => void setImmediate(() => void machine.stop())),
  block_resize: {
    takes: ["device", "size"],
    run: async (machine, { device, size }) => {
      await diskOf(machine, device, "GenericError").resize(wholeNumber(size, "size"));
      return {};
    },
  },
  block_set_io_throttle: { takes: ["device", ...THROTTLE], run: throttle },
  ...BLOCK_JOB_COMMANDS,
  transaction,
  ...HOTPLUG_COMMANDS,
  balloon: {
    takes: ["value"],
    run: (machine, { value }) => {
      if (typeof value !== "number" || !Number.isSafeInteger(value) || value <= 0) {
        throw new QmpError("Parameter 'value' expects a size in bytes");
      }
      machine.setBalloon(Math.max(0, machine.memoryBytes - value));
      return {};
    },
  },
};

function throttle(machine: Machine, args: Arguments): object {
  for (const name of THROTTLE) wholeNumber(args[name], name);
  if (THROTTLE.some((name) => /_(rd|wr)$/.test(name) && args[name] !== 0)) {
    throw new QmpError("limits are of reads and writes together: bps and iops");
  }
  const [bps, iops] = [Number(args.bps), Number(args.iops)];
  diskOf(machine, args.device, "DeviceNotFound").limits = { ...(bps > 0 && { bps }), ...(iops > 0 && { iops }) };
  return {};
}

function asks(answer: (machine: Machine) => unknown): Command {
  return { takes: [], run: answer };
}

function tells(act: (machine: Machine) => void | Promise<void>): Command {
  return {
    takes: [],
    run: async (machine) => {
      await act(machine);
      return {};
    },
  };
}

export function commandNames(): string[] {
  return ["qmp_capabilities", ...Object.keys(COMMANDS)].toSorted();
}

/** Performs a command; throws a {@link QmpError} for what cannot be. */
export async function perform(machine: Machine, name: string, args: Arguments): Promise<unknown> {
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (command === undefined) throw new QmpError(`The command ${name} has not been found`, "CommandNotFound");
  checkNames(command, args);
  try {
    return await command.run(machine, args);
  } catch (error) {
    if (error instanceof QmpError) throw error;
    throw new QmpError(error instanceof Error ? error.message : String(error));
  }
}

async function blockInfo(disk: AttachedDisk): Promise<object> {
  const { id: device, file, format, readOnly, sizeBytes, cache, limits } = disk;
  const [chain, bitmaps] = await Promise.all([disk.jobs.chain(), disk.bitmaps.list()]);
  const { bps = 0, iops = 0 } = limits;
  const limited = { bps, bps_rd: 0, bps_wr: 0, iops, iops_rd: 0, iops_wr: 0 };
  const inserted = {
    file,
    drv: format,
    ro: readOnly,
    encrypted: false,
    backing_file_depth: chain.length - 1,
    ...(chain[1] !== undefined && { backing_file: chain[1] }),
    ...(bitmaps.length > 0 && { "dirty-bitmaps": bitmaps.map(bitmapInfo) }),
    detect_zeroes: "off",
    write_threshold: 0,
    cache: { writeback: !writesThrough(cache), direct: isDirect(cache), "no-flush": cache === "unsafe" },
    image: { filename: file, format, "virtual-size": sizeBytes },
    ...limited,
  };
  return { device, qdev: `/machine/${device}`, locked: false, removable: false, type: "unknown", inserted };
}

function bitmapInfo({ name, granularity, persistent, enabled, busy, abandoned, dirtyBytes }: BitmapState): object {
  const common = { name, granularity, persistent, busy, recording: enabled, count: dirtyBytes };
  return abandoned ? { ...common, inconsistent: true } : common;
}

/** The QMP events that tell of one of ours. */
export function eventsOf(told: LifeEvent, machine: Machine): { name: string; data?: object }[] {
  switch (told.event) {
    case "paused":
      return [{ name: "STOP" }];
    case "resumed":
      return [{ name: "RESUME" }];
    case "power-button":
      return [{ name: "POWERDOWN" }];
    case "reset": {
      const reason = told.byGuest ? "guest-reset" : "host-qmp-system-reset";
      return [{ name: "RESET", data: { guest: told.byGuest, reason } }];
    }
    case "panicked":
      return told.crashLoaded
        ? [{ name: "GUEST_CRASHLOADED", data: { action: "run" } }]
        : [{ name: "GUEST_PANICKED", data: { action: told.ends ? "poweroff" : "run" } }];
    case "balloon":
      return [{ name: "BALLOON_CHANGE", data: { actual: machine.memoryBytes - told.bytes } }];
    case "disk-error": {
      const { operation, action, noSpace, message } = told;
      const device = machine.disks.find(({ file }) => file === told.file)?.id;
      return [{ name: "BLOCK_IO_ERROR", data: { device, operation, action, nospace: noSpace, reason: message } }];
    }
    case "block-job":
      return jobEvents(told.job);
    case "unplugged":
      return [{ name: "DEVICE_DELETED", data: { device: told.id, path: `/machine/peripheral/${told.id}` } }];
    case "trouble":
      // QEMU says such things on stderr.
      return [];
    case "ended":
      return [{ name: "SHUTDOWN", data: shutdownData(told.end) }];
  }
}

function shutdownData(end: MachineEnd): object {
  switch (end.reason) {
    case "power-off":
    case "debug-exit":
      return { guest: true, reason: "guest-shutdown" };
    case "reset":
      return { guest: true, reason: "guest-reset" };
    case "panicked":
      return { guest: true, reason: "guest-panic" };
    case "stopped":
      return { guest: false, reason: "host-qmp-quit" };
    case "crash":
      return { guest: false, reason: "host-error" };
  }
}
