/** `lodge image resize`, `commit` and `rebase`. */

import {
  type CacheMode,
  commitImage,
  openImage,
  type Preallocation,
  rebaseImage,
  resizeImage,
  StorageError,
} from "@lodge/storage";
import { Command, Option } from "commander";
import { percent } from "./convert.ts";
import {
  backingOf,
  cacheOption,
  type NamingFlags,
  named,
  namedFile,
  PREALLOCATIONS,
  RATE_LIMIT_HELP,
} from "./options.ts";
import { parseDiskSize, parseSize } from "./size.ts";

interface ResizeFlags extends NamingFlags {
  shrink?: true;
  preallocation: Preallocation;
  quiet?: true;
}

/** Its last argument may be a size such as -1G, which is no option. */
class ResizeCommand extends Command {
  override parseOptions(args: string[]): ReturnType<Command["parseOptions"]> {
    const last = args.at(-1);
    const isSize = last !== undefined && /^-\d/.test(last) && args.at(-2) !== "--";
    return super.parseOptions(isSize ? [...args.slice(0, -1), "--", last] : args);
  }
}

export function resizeCommand(): Command {
  return new ResizeCommand("resize")
    .argument("<file>", "the image")
    .argument("<size>", "the new size; +SIZE or -SIZE is by how much")
    .description("make a disk larger or smaller")
    .option("-f, --format <format>", "the image's format; its content decides unless it is given")
    .option("--shrink", "what is behind the new end may be lost")
    .addOption(
      new Option("--preallocation <mode>", "space in advance for what is new, as create -o preallocation= has it")
        .choices(PREALLOCATIONS)
        .default("off"),
    )
    .option("-q, --quiet", "say nothing")
    .allowExcessArguments(false)
    .action(async (file: string, size: string, flags: ResizeFlags) => {
      const { preallocation } = flags;
      const { path, options } = await named(file, flags);
      const image = await openImage(path, options);
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
        await resizeImage(image, sizeBytes, preallocation);
        if (!flags.quiet) console.log("Image resized.");
      } finally {
        await image.close();
      }
    });
}

interface CommitFlags extends NamingFlags {
  base?: string;
  cache: CacheMode;
  rateLimit?: number;
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
    .addOption(cacheOption("-t, --cache <mode>", "the images").default("writeback"))
    .option("-r, --rate-limit <bytes>", RATE_LIMIT_HELP, parseSize)
    .option("-p, --progress", "show how far it is")
    .option("-q, --quiet", "say nothing")
    .allowExcessArguments(false)
    .action(async (file: string, flags: CommitFlags) => {
      const { keep, base, cache, rateLimit = 0 } = flags;
      const { path, ...format } = await namedFile(file, flags);
      await commitImage(path, {
        ...format,
        cache,
        ...(rateLimit > 0 && { rateLimit }),
        ...(keep && { keep }),
        ...(base !== undefined && { base }),
        ...(flags.progress && { progress: percent() }),
      });
      if (!flags.quiet) console.log("Image committed.");
    });
}

interface RebaseFlags extends NamingFlags {
  backing: string;
  backingFormat?: string;
  unsafe?: true;
  cache: CacheMode;
  sourceCache: CacheMode;
  forceShare?: true;
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
    .addOption(cacheOption("-t, --cache <mode>", "the image").default("writeback"))
    .addOption(cacheOption("-T, --source-cache <mode>", "the new backing image").default("writeback"))
    .option("-U, --force-share", "also if others write the new backing image; what is read of it may be half written")
    .option("-p, --progress", "show how far it is")
    .option("-q, --quiet", "say nothing")
    .allowExcessArguments(false)
    .action(async (file: string, flags: RebaseFlags) => {
      const { backing, backingFormat, unsafe = false, forceShare = false } = flags;
      const { path, ...format } = await namedFile(file, flags);
      await rebaseImage(path, {
        ...format,
        unsafe,
        cache: flags.cache,
        backingCache: flags.sourceCache,
        lockBacking: !forceShare,
        backing: backingOf("-b", backing === "" ? undefined : backing, backingFormat),
        ...(flags.progress && { progress: percent() }),
      });
    });
}
