/** `lodge image compare`. */

import { type CacheMode, compareImages } from "@lodge/storage";
import { Command } from "commander";
import { percent } from "./convert.ts";
import { cacheOption, type NamingFlags, openNamed } from "./options.ts";

interface Flags extends NamingFlags {
  secondFormat?: string;
  strict?: true;
  progress?: true;
  quiet?: true;
  json?: true;
  forceShare?: true;
  sourceCache: CacheMode;
}

export function compareCommand(): Command {
  return new Command("compare")
    .argument("<one>")
    .argument("<two>")
    .description("whether two disks have the same content; the status is 0 if they have, 1 if not")
    .option("-f, --format <format>", "the first one's format")
    .option("-F, --second-format <format>", "the second one's format")
    .option("-s, --strict", "sizes and what is allocated count, too")
    .option("-p, --progress", "show how far it is")
    .option("-q, --quiet", "say nothing: the status does")
    .option("-U, --force-share", "also while somebody writes them")
    .addOption(cacheOption("-T, --source-cache <mode>", "the images").default("writeback"))
    .option("--json", "as JSON")
    .allowExcessArguments(false)
    .action(async (one: string, two: string, flags: Flags) => {
      const first = await openNamed(one, flags);
      try {
        const { format: _, secondFormat, ...same } = flags;
        const second = await openNamed(two, secondFormat === undefined ? same : { ...same, format: secondFormat });
        try {
          const strict = flags.strict === true;
          const found = await compareImages(first, second, { strict, ...(flags.progress && { progress: percent() }) });
          process.exitCode = found === undefined ? 0 : 1;
          if (flags.json) console.log(JSON.stringify({ identical: found === undefined, ...found }));
          else if (flags.quiet) return;
          else if (found === undefined) console.log("Images are identical.");
          else
            console.log(
              `${found.what === "content" ? "Content" : found.what === "size" ? "Size" : "Allocation"} mismatch at offset ${found.offset}!`,
            );
        } finally {
          await second.close();
        }
      } finally {
        await first.close();
      }
    });
}
