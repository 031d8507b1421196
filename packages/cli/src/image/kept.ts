/** `lodge image build` and `list`: what machines are started from. */

import { existsSync } from "node:fs";
import { imagePlace, prepareImage, RECIPES } from "@lodge/vmm";
import { Command } from "commander";
import { Progress } from "../progress.ts";

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
}
