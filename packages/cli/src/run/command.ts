/** `lodge run`: a machine in the foreground, its console on this terminal, or one command in it. */

import { constants } from "node:os";
import { pipeline } from "node:stream/promises";
import { describeEnd, Machine, type MachineEnd, type MachineOptions } from "@lodge/vmm";
import { Command } from "commander";
import { Progress } from "../progress.ts";
import { addRunOptions, type RunFlags } from "./options.ts";
import { onSignals, signalStatus } from "./signals.ts";
import { takeTerminal } from "./terminal.ts";

/** `guestCommand`: what stands behind `--`. */
export function runCommand(guestCommand: readonly string[] | undefined): Command {
  const command = new Command("run")
    .description("start a machine: its console on this terminal (Ctrl-A x ends it), or one command in it")
    .usage("[options] [image] [-- command...]")
    .argument("[image]", "what it starts from; tiny unless there is a --kernel")
    .allowExcessArguments(false);
  return addRunOptions(command).action(async (image: string | undefined, { device, disk, gdb, ...flags }: RunFlags) => {
    const options = {
      ...flags,
      ...device,
      disks: disk,
      ...(gdb !== undefined && { gdbPort: gdb }),
      ...(image !== undefined && { image }),
    };
    process.exitCode = guestCommand === undefined ? await runConsole(options) : await runOne(options, guestCommand);
  });
}

/** The status when the guest's kernel panicked; 1 and 2 are our own failures. */
const PANICKED = 3;

/** A machine with its console here; the status says how it ended. */
async function runConsole(options: MachineOptions): Promise<number> {
  using progress = new Progress();
  const write = (bytes: Uint8Array) => {
    progress.done();
    process.stdout.write(bytes);
  };
  const begun = beginning();
  await using machine = await Machine.start({
    ...options,
    console: write,
    debugConsole: write,
    progress: (step) => progress.step(step),
    signal: begun.signal,
  });
  begun[Symbol.dispose]();
  progress.step("waiting for the guest's first words");
  let ended: NodeJS.Signals | undefined;
  using _signals = onSignals((signal) => {
    ended = signal;
    void machine.stop();
  });
  using terminal = takeTerminal({
    typed: (bytes) => machine.type(bytes),
    quit: () => {
      // The guest's last line has no end.
      process.stderr.write("\r\n");
      void machine.stop();
    },
    // A guest without an agent keeps the size that it has.
    resized: (rows, columns) => machine.setWindow(rows, columns),
  });
  const end = await machine.ended;
  terminal[Symbol.dispose]();
  progress.done();
  return ended === undefined ? consoleStatus(end) : signalStatus(ended);
}

function consoleStatus(end: MachineEnd): number {
  switch (end.reason) {
    case "power-off":
    case "reset":
    case "stopped":
      return 0;
    case "debug-exit":
      return end.status;
    case "panicked":
      console.error(`lodge: ${describeEnd(end)}`);
      return PANICKED;
    case "crash":
      console.error(`lodge: ${describeEnd(end)}`);
      return 1;
  }
}

/** One command in a machine made for it: its streams, signals and status are this process's. */
async function runOne(options: MachineOptions, command: readonly string[]): Promise<number> {
  using progress = new Progress();
  const begun = beginning();
  const append = [options.append, "lodge.shell=0"].filter((part) => part !== undefined).join(" ");
  await using machine = await Machine.start({
    ...options,
    append,
    progress: (step) => progress.step(step),
    signal: begun.signal,
  });
  progress.step("booting");
  const stopped = begun.whenAborted(() => void machine.stop());
  const guest = await machine.spawn(command).catch((error) => {
    throw begun.signal.aborted ? begun.signal.reason : error;
  });
  progress.done();
  stopped[Symbol.dispose]();
  begun[Symbol.dispose]();

  using _signals = onSignals((signal) => guest.kill(signal));
  process.stdin.pipe(guest.stdin);
  const [, , status] = await Promise.all([
    pipeline(guest.stdout, process.stdout, { end: false }),
    pipeline(guest.stderr, process.stderr, { end: false }),
    guest.exited,
  ]);
  process.stdin.unpipe(guest.stdin).destroy();
  return status;
}

/** Until a machine runs, a signal gives up what was begun, and is then obeyed. */
export function beginning() {
  const controller = new AbortController();
  const signals = onSignals((signal) => {
    controller.abort(new Interrupted(signal));
  });
  return {
    signal: controller.signal,
    whenAborted(callback: () => void): Disposable {
      controller.signal.addEventListener("abort", callback);
      return { [Symbol.dispose]: () => controller.signal.removeEventListener("abort", callback) };
    },
    [Symbol.dispose]: () => signals[Symbol.dispose](),
  };
}

/** What a start is given up with when a signal comes. */
export class Interrupted extends Error {
  readonly status: number;

  constructor(signal: NodeJS.Signals) {
    super(`interrupted by ${signal} (${constants.signals[signal]})`);
    this.status = signalStatus(signal);
  }
}
