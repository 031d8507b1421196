/** The lodge command: its arguments, its errors, its exit status. */

import { readFileSync } from "node:fs";
import { findPackageJSON, getCompileCacheDir } from "node:module";
import { dirname } from "node:path";
import { Command, CommanderError } from "commander";
import { chosen } from "./chosen.ts";
import { Interrupted } from "./run/beginning.ts";

/** The status for what cannot be meant, or cannot be done on this host: nothing was begun. Anything else that fails is 1. */
const REFUSED = 2;
/** The codes of our own packages' errors. */
const OURS = /^(DEVICE|KVM|MACHINE|NETWORK|STORAGE|VMM)_/;

/** The commands, in help's order. Only the one that is asked for is loaded: all of them take half a second. */
const COMMANDS = {
  disk: async () => (await import("./disk/command.ts")).diskCommand(),
  image: async (args: readonly string[]) => (await import("./image/command.ts")).imageCommand(args),
  info: async () => (await import("./info/command.ts")).infoCommand(),
  nbd: async () => (await import("./nbd/command.ts")).nbdCommand(),
  net: async () => (await import("./net/command.ts")).netCommand(),
  run: async (_: readonly string[], guestCommand?: readonly string[]) =>
    (await import("./run/command.ts")).runCommand(guestCommand),
};

/** Runs the command with these arguments and sets the process's exit status. */
export async function main(args: readonly string[]): Promise<void> {
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    // A reader that has seen enough (`lodge info | head -1`) is no error.
    process.exit(error.code === "EPIPE" ? process.exitCode : report(error));
  });
  // What stands behind `--` is a command of the guest, whatever it looks like.
  const cut = args[0] === "run" ? args.indexOf("--") : -1;
  const own = cut < 0 ? args : args.slice(0, cut);
  try {
    const program = await lodge(own, cut < 0 ? undefined : args.slice(cut + 1));
    if (args.length === 0) program.outputHelp();
    else await program.parseAsync(own, { from: "user" });
  } catch (error) {
    process.exitCode = report(error);
  }
  await tidy();
}

/** What this command and those before it have left for the next. */
async function tidy(): Promise<void> {
  const compiled = getCompileCacheDir();
  if (compiled === undefined) return;
  (await import("./compiled-code.ts")).tidyCompiledCode(dirname(compiled));
}

/** Commander's own errors are thrown and said in one line by {@link report}. */
const SILENT = { writeErr: () => {} };

async function lodge(args: readonly string[], guestCommand: readonly string[] | undefined): Promise<Command> {
  const program = new Command("lodge")
    .description("Virtual machines with KVM, in TypeScript.")
    .version(version(), "-V, --version", "print the version")
    .helpOption("-h, --help", "print help")
    .helpCommand("help [command]", "print help for a command")
    .exitOverride()
    .configureOutput(SILENT);
  if (args[0] === "-V" || args[0] === "--version") return program;
  for (const make of chosen(COMMANDS, args[0])) program.addCommand(quiet(await make(args.slice(1), guestCommand)));
  return program;
}

/** A command, and those below it, that leave it to {@link report} to say what is wrong. */
function quiet(command: Command): Command {
  for (const below of command.commands) quiet(below);
  return command.helpOption("-h, --help", "print help").exitOverride().configureOutput(SILENT);
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
    return REFUSED;
  }
  if (error instanceof Interrupted) return error.status;
  // What went wrong first, not what could not be undone because of it.
  if (error instanceof SuppressedError) return report(error.suppressed);
  say(oneLine(error instanceof Error ? error.message : String(error)));
  if (process.env.LODGE_DEBUG === "1") console.error(error);
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  // A machine that ended under a command had begun.
  return OURS.test(code) && code !== "VMM_ENDED" ? REFUSED : 1;
}

function oneLine(text: string): string {
  return text.replace(/\s*\n\s*/g, " ");
}

function say(line: string): void {
  console.error(`lodge: ${line}`);
}
