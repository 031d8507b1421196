/** `lodge image resize`, `commit` and `rebase`. */

import { commitImage, openImage, rebaseImage, StorageError } from "@lodge/storage";
import { Command } from "commander";
import { percent } from "./convert.ts";
import { backingOf } from "./options.ts";
import { parseDiskSize } from "./size.ts";

export function resizeCommand(): Command {
  return new Command("resize")
    .argument("<file>", "the image")
    .argument("<size>", "the new size; +SIZE or -SIZE is by how much")
    .description("make a disk larger or smaller")
    .option("-f, --format <format>", "the image's format; its content decides unless it is given")
    .option("--shrink", "what is behind the new end may be lost")
    .option("-q, --quiet", "say nothing")
    .allowExcessArguments(false)
    .action(async (file: string, size: string, flags: { format?: string; shrink?: true; quiet?: true }) => {
      const { format } = flags;
      const image = await openImage(file, { ...(format !== undefined && { format }) });
      try {
        const sign = size.startsWith("+") ? 1 : size.startsWith("-") ? -1 : 0;
        const bytes = parseDiskSize(sign === 0 ? size : size.slice(1));
        const sizeBytes = sign === 0 ? bytes : image.sizeBytes + sign * bytes;
        if (sizeBytes < 0)
          throw new StorageError("STORAGE_OPEN", `${file}: its disk has only ${image.sizeBytes} bytes`);
        if (sizeBytes < image.sizeBytes && !flags.shrink) {
          throw new StorageError(
            "STORAGE_OPEN",
            `${file}: ${sizeBytes} bytes are less than its ${image.sizeBytes}: what is behind is lost; say --shrink`,
          );
        }
        await image.resize(sizeBytes);
        if (!flags.quiet) console.log("Image resized.");
      } finally {
        await image.close();
      }
    });
}

interface CommitFlags {
  format?: string;
  base?: string;
  keep?: true;
  progress?: true;
  quiet?: true;
}

export function commitCommand(): Command {
  return new Command("commit")
    .argument("<file>", "the image, which is empty afterwards")
    .description("write what an image holds into its backing image")
    .option("-f, --format <format>", "the image's format; its content decides unless it is given")
    .option("-b, --base <file>", "write it, with those between, into this image further below; all stay as they are")
    .option("-d, --keep", "leave the image as it is")
    .option("-p, --progress", "show how far it is")
    .option("-q, --quiet", "say nothing")
    .allowExcessArguments(false)
    .action(async (file: string, flags: CommitFlags) => {
      const { format, keep, base } = flags;
      await commitImage(file, {
        ...(keep && { keep }),
        ...(base !== undefined && { base }),
        ...(format !== undefined && { format }),
        ...(flags.progress && { progress: percent() }),
      });
      if (!flags.quiet) console.log("Image committed.");
    });
}

interface RebaseFlags {
  format?: string;
  backing: string;
  backingFormat?: string;
  unsafe?: true;
  progress?: true;
}

export function rebaseCommand(): Command {
  return new Command("rebase")
    .argument("<file>", "the image")
    .description("give an image another backing image; its content stays the same")
    .requiredOption("-b, --backing <file>", 'the new backing file, relative to the image\'s folder; "" for none')
    .option("-F, --backing-format <format>", "the backing file's format")
    .option("-f, --format <format>", "the image's format; its content decides unless it is given")
    .option("-u, --unsafe", "change the name only: the content changes if the backing images differ")
    .option("-p, --progress", "show how far it is")
    .option("-q, --quiet", "say nothing")
    .allowExcessArguments(false)
    .action(async (file: string, flags: RebaseFlags) => {
      const { format, backing, backingFormat, unsafe = false } = flags;
      await rebaseImage(file, {
        unsafe,
        backing: backingOf("-b", backing === "" ? undefined : backing, backingFormat),
        ...(format !== undefined && { format }),
        ...(flags.progress && { progress: percent() }),
      });
    });
}
