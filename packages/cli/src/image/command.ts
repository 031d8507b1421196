/** `lodge image`: disk images, with qemu-img's names, and what machines are started from. */

import { existsSync } from "node:fs";
import { imagePlace, prepareImage, RECIPES } from "@lodge/vmm";
import { Command } from "commander";
import { Progress } from "../progress.ts";
import { benchCommand } from "./bench.ts";
import { commitCommand, rebaseCommand, resizeCommand } from "./change.ts";
import { checkCommand } from "./check.ts";
import { compareCommand } from "./compare.ts";
import { convertCommand } from "./convert.ts";
import { createCommand } from "./create.ts";
import { importCommand } from "./import.ts";
import { infoCommand } from "./info.ts";
import { mapCommand } from "./map.ts";
import { snapshotCommand } from "./snapshot.ts";

export function imageCommand(): Command {
  const image = new Command("image").description(
    "disk images, with qemu-img's command and option names; build and list are of what machines are started from",
  );
  image
    .command("build")
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
  image
    .command("list")
    .description("list the images that can be built, and which of them are there")
    .option("--json", "print them as JSON")
    .allowExcessArguments(false)
    .action(({ json }: { json?: true }) => {
      const images = RECIPES.map((recipe) => ({
        name: recipe.name,
        built: existsSync(imagePlace(recipe)),
        description: recipe.description,
      }));
      if (json) console.log(JSON.stringify(images, undefined, 2));
      else
        for (const one of images)
          console.log(`${one.name.padEnd(10)}${one.built ? "built    " : "not built"}  ${one.description}`);
    });
  image.addCommand(importCommand());
  for (const make of [
    createCommand,
    infoCommand,
    checkCommand,
    convertCommand,
    resizeCommand,
    mapCommand,
    compareCommand,
    commitCommand,
    rebaseCommand,
    snapshotCommand,
    benchCommand,
  ]) {
    image.addCommand(make());
  }
  return image;
}
