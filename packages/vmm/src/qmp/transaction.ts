/** QMP's `transaction`: several things are done to disks at one moment of all of them, or none is. */

import { AttachedDisk } from "../disks/attached-disk.ts";
import type { Machine } from "../machine.ts";
import { BLOCK_JOB_COMMANDS, snapshot } from "./block-jobs.ts";
import { type Arguments, type Command, checkNames, diskOf, text } from "./command.ts";
import { QmpError } from "./protocol.ts";

/** What takes back what was done. */
type Undo = () => Promise<void>;

interface Action {
  /** The argument that names its disk, and the commands' own names of all of them. */
  readonly disk: string;
  readonly command: Pick<Command, "takes" | "may">;
  readonly perform: (machine: Machine, disk: AttachedDisk, args: Arguments) => Promise<Undo>;
}

/** More than anybody has disks and bitmaps. */
const MOST_ACTIONS = 1024;

const ACTIONS: Readonly<Record<string, Action>> = {
  "block-dirty-bitmap-add": onBitmap("block-dirty-bitmap-add", "name"),
  "block-dirty-bitmap-remove": onBitmap("block-dirty-bitmap-remove", "name"),
  "block-dirty-bitmap-clear": onBitmap("block-dirty-bitmap-clear", "name"),
  "block-dirty-bitmap-enable": onBitmap("block-dirty-bitmap-enable", "name"),
  "block-dirty-bitmap-disable": onBitmap("block-dirty-bitmap-disable", "name"),
  "block-dirty-bitmap-merge": onBitmap("block-dirty-bitmap-merge", "target"),
  "blockdev-snapshot-sync": {
    disk: "device",
    command: BLOCK_JOB_COMMANDS["blockdev-snapshot-sync"]!,
    perform: (machine, _, args) => snapshot(machine, args),
  },
  "drive-backup": {
    disk: "device",
    command: BLOCK_JOB_COMMANDS["drive-backup"]!,
    perform: async (machine, disk, args) => {
      const remembered = args.bitmap === undefined ? undefined : await disk.bitmaps.remember(text(args, "bitmap"));
      await BLOCK_JOB_COMMANDS["drive-backup"]!.run(machine, args);
      const job = disk.jobs.current;
      return async () => {
        job?.cancel({ force: true });
        await job?.ended;
        await remembered?.();
      };
    },
  },
};

function onBitmap(name: string, bitmap: "name" | "target"): Action {
  const command = BLOCK_JOB_COMMANDS[name]!;
  return {
    disk: "node",
    command,
    perform: async (machine, { bitmaps }, args) => {
      const named = text(args, bitmap);
      if ((await bitmaps.list()).some((one) => one.name === named && one.abandoned)) {
        throw new QmpError(`Bitmap '${named}' is inconsistent: it can only be removed, outside of transactions`);
      }
      const undo = await bitmaps.remember(named);
      await command.run(machine, args);
      return undo;
    },
  };
}

export const transaction: Command = {
  takes: ["actions"],
  may: ["properties"],
  run: async (machine, { actions, properties = {} }) => {
    if (!Array.isArray(actions) || actions.length > MOST_ACTIONS) {
      throw new QmpError(`Parameter 'actions' expects a list of at most ${MOST_ACTIONS}`);
    }
    if (!isRecord(properties) || (properties["completion-mode"] ?? "individual") !== "individual") {
      throw new QmpError("Parameter 'properties': jobs end each for itself here (completion-mode individual)");
    }
    // Nothing is done before all of them are understood.
    const steps = actions.map((action) => understand(machine, action));
    const concerned = new Set(steps.flatMap((step) => (step === undefined ? [] : [step.disk])));
    await AttachedDisk.held(
      machine.disks.filter((disk) => concerned.has(disk)),
      () => allOrNothing(steps),
    );
    return {};
  },
};

interface Step {
  disk: AttachedDisk;
  perform: () => Promise<Undo>;
}

/** Undefined for the action that fails for the sake of it. */
function understand(machine: Machine, given: unknown): Step | undefined {
  if (!isRecord(given) || typeof given.type !== "string" || !isRecord(given.data)) {
    throw new QmpError("Parameter 'actions' expects objects with a 'type' and 'data'");
  }
  const { type, data } = given;
  if (type === "abort") return undefined;
  const action = Object.hasOwn(ACTIONS, type) ? ACTIONS[type] : undefined;
  if (action === undefined) {
    throw new QmpError(`Parameter 'type' does not accept value '${type}': there is ${Object.keys(ACTIONS).join(", ")}`);
  }
  checkNames(action.command, data);
  const disk = diskOf(machine, data[action.disk], "GenericError");
  return { disk, perform: () => action.perform(machine, disk, data) };
}

async function allOrNothing(steps: readonly (Step | undefined)[]): Promise<void> {
  const undos: Undo[] = [];
  try {
    for (const step of steps) {
      if (step === undefined) throw new QmpError("Transaction aborted using Abort action");
      undos.push(await step.perform());
    }
  } catch (cause) {
    for (const undo of undos.reverse()) await undo();
    throw cause;
  }
}

function isRecord(value: unknown): value is Arguments {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
