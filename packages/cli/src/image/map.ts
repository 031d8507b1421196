/** `lodge image map`. */

import { mapImage } from "@lodge/storage";
import { Command } from "commander";
import { type NamingFlags, openNamed } from "./options.ts";
import { parseSize } from "./size.ts";

interface Flags extends NamingFlags {
  startOffset: number;
  maxLength: number;
  output: string;
  json?: true;
  forceShare?: true;
}

export function mapCommand(): Command {
  return new Command("map")
    .argument("<file>", "the image")
    .description("show which part of a disk lies where")
    .option("-f, --format <format>", "the image's format; its content decides unless it is given")
    .option("-s, --start-offset <size>", "from here on", parseSize, 0)
    .option("-l, --max-length <size>", "so much of it", parseSize, Number.POSITIVE_INFINITY)
    .option("--output <form>", "human or json, as for qemu-img", "human")
    .option("--json", "as JSON")
    .option("-U, --force-share", "also while somebody writes it")
    .allowExcessArguments(false)
    .action(async (file: string, flags: Flags) => {
      const { startOffset: start, maxLength } = flags;
      const image = await openNamed(file, flags);
      try {
        const end = Math.min(image.sizeBytes, start + maxLength);
        if (flags.json || flags.output === "json") await printJson(mapImage(image, end, start));
        else await printTable(mapImage(image, end, start), image.name);
      } finally {
        await image.close();
      }
    });
}

async function printJson(extents: ReturnType<typeof mapImage>): Promise<void> {
  let before = "[";
  for await (const { start, length, depth, present, zero, data, offset } of extents) {
    const place = offset === undefined ? {} : { offset };
    console.log(`${before}${JSON.stringify({ start, length, depth, present, zero, data, ...place })}`);
    before = ",";
  }
  console.log(before === "[" ? "[]" : "]");
}

async function printTable(extents: ReturnType<typeof mapImage>, image: string): Promise<void> {
  const hex = (value: number) => `0x${value.toString(16)}`.padEnd(16);
  console.log(`${"Offset".padEnd(16)}${"Length".padEnd(16)}${"Mapped to".padEnd(16)}File`);
  for await (const { start, length, data, zero, offset, name } of extents) {
    if (!data || zero) continue;
    const place = offset === undefined ? "compressed".padEnd(16) : hex(offset);
    console.log(`${(start === 0 ? "0" : hex(start)).padEnd(16)}${hex(length)}${place}${name ?? image}`);
  }
}
