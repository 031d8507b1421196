/** `lodge image map`. */

import { mapImage, openImage } from "@lodge/storage";
import { Command } from "commander";

export function mapCommand(): Command {
  return new Command("map")
    .argument("<file>", "the image")
    .description("show which part of a disk lies where")
    .option("-f, --format <format>", "the image's format; its content decides unless it is given")
    .option("--output <form>", "human or json, as for qemu-img", "human")
    .option("--json", "as JSON")
    .option("-U, --force-share", "also while somebody writes it")
    .allowExcessArguments(false)
    .action(async (file: string, flags: { format?: string; output: string; json?: true; forceShare?: true }) => {
      const { format } = flags;
      const image = await openImage(file, {
        readOnly: true,
        lock: !flags.forceShare,
        ...(format !== undefined && { format }),
      });
      try {
        if (flags.json || flags.output === "json") await printJson(image);
        else await printTable(image);
      } finally {
        await image.close();
      }
    });
}

async function printJson(image: Parameters<typeof mapImage>[0]): Promise<void> {
  let before = "[";
  for await (const { start, length, depth, present, zero, data, offset } of mapImage(image)) {
    const place = offset === undefined ? {} : { offset };
    console.log(`${before}${JSON.stringify({ start, length, depth, present, zero, data, ...place })}`);
    before = ",";
  }
  console.log(before === "[" ? "[]" : "]");
}

async function printTable(image: Parameters<typeof mapImage>[0]): Promise<void> {
  const hex = (value: number) => `0x${value.toString(16)}`.padEnd(16);
  console.log(`${"Offset".padEnd(16)}${"Length".padEnd(16)}${"Mapped to".padEnd(16)}File`);
  for await (const { start, length, data, zero, offset, name } of mapImage(image)) {
    if (!data || zero) continue;
    const place = offset === undefined ? "compressed".padEnd(16) : hex(offset);
    console.log(`${(start === 0 ? "0" : hex(start)).padEnd(16)}${hex(length)}${place}${name ?? image.name}`);
  }
}
