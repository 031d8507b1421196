/** `lodge image create`. */

import { backingPath, createImage, openImage } from "@lodge/storage";
import { Command } from "commander";
import { backingOf, collect, parseImageOptions } from "./options.ts";
import { parseDiskSize } from "./size.ts";

interface Flags {
  format: string;
  options?: string[];
  backing?: string;
  backingFormat?: string;
  unsafe?: true;
  quiet?: true;
  json?: true;
}

export function createCommand(): Command {
  return new Command("create")
    .argument("<file>", "the new image")
    .argument("[size]", "of the disk, such as 20G; a backing file has one, too", parseDiskSize)
    .description("make a new disk image")
    .option("-f, --format <format>", "raw or qcow2", "raw")
    .option("-o, --options <list>", "name=value,… as qemu-img has them: cluster_size, preallocation …", collect)
    .option("-b, --backing <file>", "what the new image stands on, relative to its folder")
    .option("-F, --backing-format <format>", "the backing file's format")
    .option("-u, --unsafe", "without looking for the backing file; the size is needed then")
    .option("-q, --quiet", "say nothing")
    .option("--json", "say what was made as JSON")
    .allowExcessArguments(false)
    .action(async (file: string, size: number | undefined, flags: Flags) => {
      const { backingName, backingFormat, ...options } = parseImageOptions(flags.options ?? []);
      const backing = backingOf("-b", flags.backing ?? backingName, flags.backingFormat ?? backingFormat);
      const looks = backing !== undefined && !flags.unsafe;
      // Its chain's locks keep the new image from being made in place of one of those that it stands on.
      const below = looks
        ? await openImage(backingPath(file, backing.name), { format: backing.format, readOnly: true })
        : undefined;
      try {
        const sizeBytes = size ?? options.sizeBytes ?? below?.sizeBytes;
        await createImage(file, {
          ...options,
          format: flags.format,
          ...(sizeBytes !== undefined && { sizeBytes }),
          ...(backing && { backing }),
        });
      } finally {
        await below?.close();
      }
      if (flags.json) console.log(JSON.stringify({ filename: file, format: flags.format }));
      else if (!flags.quiet) console.log(`made ${file} (${flags.format})`);
    });
}
