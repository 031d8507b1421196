/** `lodge image build`, `list` and `rm`: what Lodge itself keeps. */

import { type KeptImage, keptImages, prepareImage, RECIPES, removeKept } from "@lodge/vmm";
import { Command } from "commander";
import { Progress } from "../progress.ts";
import { table } from "../table.ts";
import { showSize } from "./size.ts";

export function buildCommand(): Command {
  return new Command("build")
    .argument("<name>", `which image: ${RECIPES.map(({ name }) => name).join(", ")}`)
    .description("build an image from today's Debian packages, through this system's apt")
    .option("--json", "print what was built as JSON")
    .allowExcessArguments(false)
    .action(async (name: string, { json }: { json?: true }) => {
      using progress = new Progress();
      const built = await prepareImage(name, { rebuild: true, progress: (step) => progress.step(step) });
      progress.done();
      if (json) console.log(JSON.stringify(built, undefined, 2));
      else console.log(`${built.name}: ${built.made.join(", ")}`);
    });
}

export function listCommand(): Command {
  return new Command("list")
    .description("list what Lodge keeps: images to start machines from, and the disks of machines with a name")
    .option("--json", "print them as JSON")
    .allowExcessArguments(false)
    .action(async ({ json }: { json?: true }) => {
      const kept = await keptImages();
      if (json) console.log(JSON.stringify(kept, undefined, 2));
      else console.log(tableOf(kept).join("\n"));
    });
}

export function removeCommand(): Command {
  return new Command("rm")
    .argument("<name...>", "as list has it: an image, which can be built again, or machines/NAME, a machine's disk")
    .description("remove what Lodge keeps, unless a machine uses it")
    .option("--json", "print the names of what was removed as JSON")
    .allowExcessArguments(false)
    .action(async (names: string[], { json }: { json?: true }) => {
      for (const name of names) {
        await removeKept(name);
        if (!json) console.log(`removed ${name}`);
      }
      if (json) console.log(JSON.stringify(names, undefined, 2));
    });
}

function tableOf(kept: readonly KeptImage[]): string[] {
  const rows = kept.map(({ name, built, diskBytes, storedBytes, inUse, description = "" }) => [
    name,
    built ? (inUse ? "in use" : "unused") : "not built",
    built ? showSize(storedBytes) : "",
    diskBytes === undefined ? "" : showSize(diskBytes),
    description,
  ]);
  return table([["NAME", "USE", "SIZE", "DISK", ""], ...rows], [2, 3]);
}
