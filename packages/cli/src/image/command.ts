/** `lodge image`: disk images, with qemu-img's names, and what machines are started from. */

import { Command } from "commander";
import { chosen } from "../chosen.ts";
import { namingOptions } from "./options.ts";

/** In help's order. */
const COMMANDS = {
  build: async () => (await import("./kept.ts")).buildCommand(),
  list: async () => (await import("./kept.ts")).listCommand(),
  rm: async () => (await import("./kept.ts")).removeCommand(),
  import: async () => (await import("./import.ts")).importCommand(),
  create: async () => (await import("./create.ts")).createCommand(),
  info: async () => (await import("./info.ts")).infoCommand(),
  check: async () => (await import("./check.ts")).checkCommand(),
  convert: async () => (await import("./convert.ts")).convertCommand(),
  resize: async () => (await import("./change.ts")).resizeCommand(),
  measure: async () => (await import("./measure.ts")).measureCommand(),
  dd: async () => (await import("./dd.ts")).ddCommand(),
  amend: async () => (await import("./amend.ts")).amendCommand(),
  map: async () => (await import("./map.ts")).mapCommand(),
  compare: async () => (await import("./compare.ts")).compareCommand(),
  commit: async () => (await import("./change.ts")).commitCommand(),
  rebase: async () => (await import("./change.ts")).rebaseCommand(),
  snapshot: async () => (await import("./snapshot.ts")).snapshotCommand(),
  bitmap: async () => (await import("./bitmap.ts")).bitmapCommand(),
  bench: async () => (await import("./bench.ts")).benchCommand(),
};

/** Their images have names, or are new. */
const OWN = new Set(["build", "list", "rm", "import", "create"]);

/** `args` are what stands behind `image`. */
export async function imageCommand(args: readonly string[]): Promise<Command> {
  const image = new Command("image").description(
    "disk images, with qemu-img's command and option names; build, list and rm are of what Lodge itself keeps",
  );
  for (const make of chosen(COMMANDS, args[0])) {
    const command = await make();
    image.addCommand(OWN.has(command.name()) ? command : namingOptions(command));
  }
  return image;
}
