/** One command in a machine made for it: its streams, signals and status are this process's. */

import { text } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import { type GuestProcess, Machine, type MachineOptions } from "@lodge/vmm";
import { Progress } from "../progress.ts";
import { beginning } from "./beginning.ts";
import { onSignals } from "./signals.ts";
import { troubleSayer } from "./trouble.ts";

/** With `json` what it gave is one object on stdout: stdout, stderr and status. */
export async function runOne(options: MachineOptions, command: readonly string[], json: boolean): Promise<number> {
  using progress = new Progress();
  const begun = beginning();
  const append = [options.append, "lodge.shell=0"].filter((part) => part !== undefined).join(" ");
  await using machine = await Machine.start({
    ...options,
    append,
    progress: (step) => progress.step(step),
    signal: begun.signal,
  });
  using _troubles = machine.watch(troubleSayer());
  progress.step("booting");
  const guest = await machine.spawn(command, { signal: begun.signal });
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
