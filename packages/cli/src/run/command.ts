/** `lodge run`: a machine in the foreground, its console on this terminal, or one command in it. */

import { Command } from "commander";
import { runConsole } from "./console.ts";
import { runOne } from "./one-command.ts";
import { addRunOptions, machineOptions, type RunFlags } from "./options.ts";

/** `guestCommand`: what stands behind `--`. */
export function runCommand(guestCommand: readonly string[] | undefined): Command {
  const command = new Command("run")
    .description("start a machine: its console on this terminal (Ctrl-A x ends it), or one command in it")
    .usage("[options] [image] [-- command...]")
    .argument("[image]", "what it starts from; tiny unless there is a --kernel")
    .allowExcessArguments(false);
  return addRunOptions(command).action(async (image: string | undefined, flags: RunFlags) => {
    const options = machineOptions(image, flags);
    const json = flags.json ?? false;
    process.exitCode =
      guestCommand === undefined
        ? await runConsole(options, flags.serial.to, json)
        : await runOne(options, guestCommand, json);
  });
}
