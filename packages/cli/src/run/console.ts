/** A machine with its console here, or elsewhere; the status says how it ended. */

import { describeEnd, Machine, type MachineEnd, type MachineOptions, VmmError } from "@lodge/vmm";
import { Progress } from "../progress.ts";
import { beginning } from "./beginning.ts";
import type { SerialPlace } from "./serial.ts";
import { onSignals, signalStatus } from "./signals.ts";
import { takeTerminal } from "./terminal.ts";
import { troubleSayer } from "./trouble.ts";

/** The status when the guest's kernel panicked; 1 and 2 are our own failures. */
const PANICKED = 3;

/** With `json`, stdout gets what becomes of the machine, line by line. */
export async function runConsole(options: MachineOptions, place: SerialPlace["to"], json: boolean): Promise<number> {
  const here = place === "stdio";
  if (json && here) {
    throw new VmmError("VMM_CONFIG", "--json has stdout, and so has the console: send that elsewhere with --serial");
  }
  using progress = new Progress();
  const write = (bytes: Uint8Array) => {
    progress.done();
    process.stdout.write(bytes);
  };
  const begun = beginning();
  await using machine = await Machine.start({
    ...options,
    ...(here && { console: write, debugConsole: write }),
    progress: (step) => progress.step(step),
    signal: begun.signal,
  });
  begun[Symbol.dispose]();
  const sayTrouble = troubleSayer();
  using _watch = machine.watch((told) => {
    progress.done();
    if (json) say(told);
    else sayTrouble(told);
  });
  if (json) say(started(machine));
  let ended: NodeJS.Signals | undefined;
  using _signals = onSignals((signal) => {
    ended = signal;
    void machine.stop();
  });
  if (here) progress.step("waiting for the guest's first words");
  else if (place === "pty" && !json) console.error(`lodge: the console is ${machine.serialPath}`);
  if (!json) for (const path of machine.serialCardPaths) console.error(`lodge: a serial card leads to ${path}`);
  using terminal = here ? takeConsole(machine) : undefined;
  const end = await machine.ended;
  terminal?.[Symbol.dispose]();
  progress.done();
  return ended === undefined ? consoleStatus(end) : signalStatus(ended);
}

/** Registers are larger than JSON's numbers. */
function say(told: object): void {
  console.log(JSON.stringify(told, (_name, value) => (typeof value === "bigint" ? `0x${value.toString(16)}` : value)));
}

function takeConsole(machine: Machine): Disposable {
  return takeTerminal({
    typed: (bytes) => machine.type(bytes),
    quit: () => {
      // The guest's last line has no end.
      process.stderr.write("\r\n");
      void machine.stop();
    },
    // A guest without an agent keeps the size that it has.
    resized: (rows, columns) => machine.setWindow(rows, columns),
  });
}

/** The first line of a machine's events. */
function started({ name, accelerator, serialPath, serialCardPaths }: Machine): object {
  const serialCards = serialCardPaths.length > 0 ? serialCardPaths : undefined;
  return { event: "started", pid: process.pid, name, accelerator: accelerator.kind, serial: serialPath, serialCards };
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
