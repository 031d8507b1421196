/** `lodge image amend`. */

import { amendImage, type CacheMode, StorageError } from "@lodge/storage";
import { Command } from "commander";
import { cacheOption, collect, type NamingFlags, namedFile, parseImageOptions } from "./options.ts";

interface Flags extends NamingFlags {
  options: string[];
  cache: CacheMode;
  quiet?: true;
}

export function amendCommand(): Command {
  return new Command("amend")
    .argument("<file>", "the image")
    .description("change what a qcow2 image was made with; its content stays the same")
    .requiredOption("-o, --options <list>", "compat, lazy_refcounts, refcount_bits: name=value,…", collect)
    .option("-f, --format <format>", "the image's format: qcow2")
    .addOption(cacheOption("-t, --cache <mode>", "the image").default("writeback"))
    .option("-q, --quiet", "say nothing")
    .allowExcessArguments(false)
    .action(async (file: string, flags: Flags) => {
      const { version, lazyRefcounts, refcountBits, ...others } = parseImageOptions(flags.options);
      const other = Object.keys(others)[0];
      const { path, format = "qcow2" } = await namedFile(file, flags);
      if (other !== undefined || format !== "qcow2") {
        const what = "compat, lazy_refcounts and refcount_bits of qcow2 images can be changed";
        throw new StorageError("STORAGE_OPEN", `${file}: ${what}; see image resize, rebase and convert for the rest`);
      }
      const wanted = {
        ...(version !== undefined && { version }),
        ...(lazyRefcounts !== undefined && { lazyRefcounts }),
        ...(refcountBits !== undefined && { refcountBits }),
      };
      await amendImage(path, wanted, flags.cache);
      if (!flags.quiet) console.log("Image amended.");
    });
}
