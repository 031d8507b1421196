/** The lodge command: its arguments, its errors, its exit status. */

import { readFileSync } from "node:fs";
import { findPackageJSON } from "node:module";
import { Command, CommanderError } from "commander";
import { infoCommand } from "./info/command.ts";

/** The status for a command line that cannot be meant; anything else that fails is 1. */
const USAGE = 2;

/** Runs the command with these arguments and sets the process's exit status. */
export async function main(args: readonly string[]): Promise<void> {
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    // A reader that has seen enough (`lodge info | head -1`) is no error.
    process.exit(error.code === "EPIPE" ? process.exitCode : report(error));
  });
  const program = lodge();
  try {
    if (args.length === 0) program.outputHelp();
    else await program.parseAsync(args, { from: "user" });
  } catch (error) {
    process.exitCode = report(error);
  }
}

/** Commander's own errors are thrown and said in one line by {@link report}. */
const SILENT = { writeErr: () => {} };

function lodge(): Command {
  const program = new Command("lodge")
    .description("Virtual machines with KVM, in TypeScript.")
    .version(version(), "-V, --version", "print the version")
    .helpOption("-h, --help", "print help")
    .helpCommand("help [command]", "print help for a command")
    .exitOverride()
    .configureOutput(SILENT);
  for (const command of [infoCommand()]) {
    program.addCommand(command.helpOption("-h, --help", "print help").exitOverride().configureOutput(SILENT));
  }
  return program;
}

function version(): string {
  return JSON.parse(readFileSync(findPackageJSON(import.meta.url)!, "utf8")).version;
}

/** Says what went wrong in one line; returns the exit status. */
function report(error: unknown): number {
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return 0;
    // What `lodge help NAME` throws for a name that is none has no message of its own.
    const message = error.code === "commander.help" ? "no such command" : error.message.replace(/^error: /, "");
    say(`${oneLine(message).replace(/\.$/, "")}; see lodge --help`);
    return USAGE;
  }
  say(oneLine(error instanceof Error ? error.message : String(error)));
  if (process.env.LODGE_DEBUG === "1") console.error(error);
  return 1;
}

function oneLine(text: string): string {
  return text.replace(/\s*\n\s*/g, " ");
}

function say(line: string): void {
  console.error(`lodge: ${line}`);
}
