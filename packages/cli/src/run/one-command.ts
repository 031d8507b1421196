/** One command in a machine made for it: its streams, signals and status are this process's. */

import { text } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import { type GuestProcess, Machine, type MachineOptions, VmmError } from "@lodge/vmm";
import { Progress } from "../progress.ts";
import { beginning } from "./beginning.ts";
import { onSignals } from "./signals.ts";
import { troubleSayer } from "./trouble.ts";

/** With `json` what it gave is one object on stdout: stdout, stderr and status. */
export async function runOne(options: MachineOptions, command: readonly string[], json: boolean): Promise<number> {
  using progress = new Progress();
  const begun = beginning();
  // A kernel that panics before it has its panic device restarts, and a restart is the end: the command would never be run.
  // An oops is a panic, because what it leaves may never come to the command, or to its end. The user's own words come last.
  const append = ["lodge.shell=0", "panic=-1", "oops=panic", options.append]
    .filter((part) => part !== undefined)
    .join(" ");
  const said = new LastWords();
  await using machine = await Machine.start({
    ...options,
    append,
    onReset: "end",
    console: (bytes) => said.add(bytes),
    progress: (step) => progress.step(step),
    signal: begun.signal,
  });
  using _troubles = machine.watch(troubleSayer());
  progress.step("booting");
  const guest = await machine.spawn(command, { signal: begun.signal }).catch((error) => {
    throw said.explain(error);
  });
  progress.done();
  begun[Symbol.dispose]();

  using _signals = onSignals((signal) => guest.kill(signal));
  process.stdin.pipe(guest.stdin);
  const status = json ? await report(guest) : await passOn(guest);
  process.stdin.unpipe(guest.stdin).destroy();
  return status;
}

async function passOn(guest: GuestProcess): Promise<number> {
  const [, , status] = await Promise.all([
    pipeline(guest.stdout, process.stdout, { end: false }),
    pipeline(guest.stderr, process.stderr, { end: false }),
    guest.exited,
  ]);
  return status;
}

async function report(guest: GuestProcess): Promise<number> {
  const [stdout, stderr, status] = await Promise.all([text(guest.stdout), text(guest.stderr), guest.exited]);
  console.log(JSON.stringify({ status, stdout, stderr }));
  return status;
}

/** The end of what the console shows, for a guest that ends before its command has begun. */
class LastWords {
  #text = "";

  add(bytes: Uint8Array): void {
    this.#text = (this.#text + Buffer.from(bytes).toString("latin1")).slice(-LAST_CHARACTERS);
  }

  /** The error of a machine that has ended, with what its guest said of that: a panic's reason, or its last line. */
  explain(error: unknown): unknown {
    if (!(error instanceof VmmError && error.code === "VMM_ENDED")) return error;
    const lines = this.#text.split(/[\r\n]+/).filter((line) => line.trim() !== "");
    const line = lines.findLast((one) => one.includes("Kernel panic")) ?? lines.at(-1);
    const last = line === undefined ? "" : `; its last words: ${line.replaceAll(/[^\x20-\x7e]/g, "?").trim()}`;
    return new VmmError(error.code, `${error.message}, before the command began${last}`, { cause: error });
  }
}

const LAST_CHARACTERS = 8192;
