/** `lodge image measure`. */

import { measureImage, StorageError } from "@lodge/storage";
import { Command } from "commander";
import { backingOf, collect, type NamingFlags, openNamed, parseImageOptions } from "./options.ts";
import { parseDiskSize, showSize } from "./size.ts";

interface Flags extends NamingFlags {
  outputFormat: string;
  options?: string[];
  size?: number;
  snapshot?: string;
  forceShare?: true;
  json?: true;
  output: string;
}

export function measureCommand(): Command {
  return new Command("measure")
    .argument("[file]", "an image whose content the new one is to have")
    .description("tell how much space a new image will need")
    .option("-f, --format <format>", "the image's format; its content decides unless it is given")
    .option("-O, --output-format <format>", "of the new image: raw or qcow2", "raw")
    .option("-o, --options <list>", "name=value,… of the new image", collect)
    .option("--size <size>", "of an empty disk, in place of an image", parseDiskSize)
    .option("-l, --snapshot <snapshot>", "an internal snapshot of the image: ID, name or snapshot.id=…,snapshot.name=…")
    .option("-U, --force-share", "also while somebody writes the image")
    .option("--json", "as JSON")
    .option("--output <form>", "human or json, as for qemu-img", "human")
    .allowExcessArguments(false)
    .action(async (file: string | undefined, flags: Flags) => {
      const { backingName, backingFormat, sizeBytes, ...options } = parseImageOptions(flags.options ?? []);
      const size = flags.size ?? sizeBytes;
      if ((file === undefined) === (size === undefined)) {
        throw new StorageError("STORAGE_OPEN", "measure takes an image, or --size of an empty disk: one of the two");
      }
      if (flags.snapshot !== undefined && file === undefined) {
        throw new StorageError("STORAGE_OPEN", "-l names a snapshot of an image: --size has none");
      }
      if (flags.outputFormat !== "raw" && flags.outputFormat !== "qcow2") {
        throw new StorageError("STORAGE_OPEN", `-O ${flags.outputFormat}: raw and qcow2 can be made`);
      }
      const backing = backingOf("-o backing_file", backingName, backingFormat);
      const wanted = { ...options, format: flags.outputFormat, ...(backing && { backing }) };
      const source = file === undefined ? undefined : await openNamed(file, flags);
      try {
        const { required, fullyAllocated, bitmaps } = await measureImage(source ?? size!, wanted);
        if (flags.json || flags.output === "json") {
          const record = { ...(bitmaps !== undefined && { bitmaps }), required, "fully-allocated": fullyAllocated };
          console.log(JSON.stringify(record, undefined, 4));
          return;
        }
        console.log(`required size: ${required} (${showSize(required)})`);
        console.log(`fully allocated size: ${fullyAllocated} (${showSize(fullyAllocated)})`);
        if (bitmaps !== undefined) console.log(`bitmaps size: ${bitmaps} (${showSize(bitmaps)})`);
      } finally {
        await source?.close();
      }
    });
}
