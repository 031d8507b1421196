/** `lodge image bitmap`. */

import { DiskBitmaps, type Image, openImage, StorageError } from "@lodge/storage";
import { Command } from "commander";
import { type NamingFlags, named } from "./options.ts";
import { parseSize } from "./size.ts";

interface Flags extends NamingFlags {
  add?: true;
  remove?: true;
  clear?: true;
  enable?: true;
  disable?: true;
  merge?: string[];
  sourceFile?: string;
  sourceFormat?: string;
  granularity?: number;
}

export function bitmapCommand(): Command {
  return new Command("bitmap")
    .argument("<file>", "the image (qcow2)")
    .argument("<bitmap>", "the bitmap's name")
    .description("bitmaps that say what was written, for incremental backups")
    .option("-f, --format <format>", "the image's format: qcow2")
    .option("--add", "make it; it follows what is written, unless --disable is given too")
    .option("--remove", "remove it")
    .option("--clear", "nothing was written, it says then")
    .option("--enable", "it follows what is written")
    .option("--disable", "it stays as it is")
    .option("--merge <source>", "add what another says; may be repeated", (name, names: string[] = []) => [
      ...names,
      name,
    ])
    .option("-b, --source-file <file>", "the image whose bitmaps --merge takes, instead of this one's")
    .option("-F, --source-format <format>", "that image's format (default: qcow2, as no other has bitmaps)")
    .option("-g, --granularity <size>", "bytes of the disk that a bit stands for, with --add (default: 64K)", parseSize)
    .allowExcessArguments(false)
    .action(async (file: string, name: string, flags: Flags) => {
      const { add, remove, clear, enable, disable, merge = [], granularity, sourceFile, sourceFormat } = flags;
      const steps = [add, remove, clear, enable, disable, merge.length > 0 || undefined];
      const refuse = (what: string) => new StorageError("STORAGE_OPEN", what);
      if (steps.every((step) => step === undefined)) {
        throw refuse("say what is to be done: --add, --remove, --clear, --enable, --disable or --merge");
      }
      if (enable && disable) throw refuse("--enable and --disable: one of both");
      if (remove && steps.filter((step) => step !== undefined).length > 1) throw refuse("--remove goes alone");
      if (granularity !== undefined && !add) throw refuse("--granularity goes with --add");
      if (sourceFile !== undefined && merge.length === 0) throw refuse("-b goes with --merge");
      if (sourceFormat !== undefined && sourceFile === undefined) throw refuse("-F goes with -b");
      const { path, options } = await named(file, flags);
      const image = await openImage(path, { backing: false, format: "qcow2", ...options });
      let source: Image | undefined;
      try {
        const bitmaps = new DiskBitmaps(() => image);
        if (sourceFile !== undefined) {
          source = await openImage(sourceFile, { backing: false, format: sourceFormat ?? "qcow2", readOnly: true });
        }
        const from = source;
        if (add) await bitmaps.add(name, { persistent: true, ...(granularity !== undefined && { granularity }) });
        if (clear) await bitmaps.clear(name);
        if (merge.length > 0) await bitmaps.merge(name, merge, from && new DiskBitmaps(() => from));
        if (enable || disable) await bitmaps.enable(name, enable === true);
        if (remove) await bitmaps.remove(name);
      } finally {
        await source?.close();
        await image.close();
      }
    });
}
