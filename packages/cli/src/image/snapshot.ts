/** `lodge image snapshot`. */

import {
  applySnapshot,
  createSnapshot,
  deleteSnapshot,
  listSnapshots,
  openImage,
  Qcow2Image,
  StorageError,
  snapshotRecord,
} from "@lodge/storage";
import { Command } from "commander";
import { snapshotTable } from "./info.ts";
import { type NamingFlags, named } from "./options.ts";

interface Flags extends NamingFlags {
  list?: true;
  create?: string;
  apply?: string;
  delete?: string;
  json?: true;
  forceShare?: true;
}

export function snapshotCommand(): Command {
  return new Command("snapshot")
    .argument("<file>", "the image (qcow2)")
    .description("keep states of a disk inside its image, and go back to them")
    .option("-l, --list", "list them")
    .option("-c, --create <name>", "keep the disk as it is now")
    .option("-a, --apply <name>", "make the disk what it was then")
    .option("-d, --delete <name>", "forget one")
    .option("-q, --quiet", "say nothing, as the others do anyhow")
    .option("--json", "list them as JSON")
    .option("-U, --force-share", "also while somebody writes it; for lists")
    .allowExcessArguments(false)
    .action(async (file: string, flags: Flags) => {
      const { create, apply, delete: gone } = flags;
      if ([create, apply, gone].filter((name) => name !== undefined).length > 1) {
        throw new StorageError("STORAGE_OPEN", "one of --create, --apply and --delete at a time");
      }
      const reads = create === undefined && apply === undefined && gone === undefined;
      const { path, options } = await named(file, flags);
      const image = await openImage(path, {
        readOnly: reads,
        backing: false,
        lock: !(reads && flags.forceShare),
        format: "qcow2",
        ...options,
      });
      try {
        if (!(image instanceof Qcow2Image)) {
          throw new StorageError("STORAGE_OPEN", `${path}: an image of the format ${image.format} has no snapshots`);
        }
        if (create !== undefined) await createSnapshot(image, create);
        else if (apply !== undefined) await applySnapshot(image, apply);
        else if (gone !== undefined) await deleteSnapshot(image, gone);
        else await list(image, flags.json === true);
      } finally {
        await image.close();
      }
    });
}

async function list(image: Qcow2Image, json: boolean): Promise<void> {
  const snapshots = (await listSnapshots(image)).map(snapshotRecord);
  if (json) console.log(JSON.stringify(snapshots, undefined, 4));
  else if (snapshots.length > 0) console.log(["Snapshot list:", ...snapshotTable(snapshots)].join("\n"));
}
