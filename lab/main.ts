/**
 * Runs a command in the lab: `node lab/main.ts [options] COMMAND [ARGUMENT...]`. See docs/lab.md.
 *
 * The status is the command's own; 124 when the time was up, 125 when the lab failed, 128 + n when signal n ended us.
 */

import { constants } from "node:os";
import { parseOptions, usage } from "./arguments.ts";
import { connectLab, LabError, labUnavailable, prepareImage } from "./lab.ts";

const labFailed = 125;
const timeIsUp = 124;

function complain(message: string): void {
  process.stderr.write(`lab: ${message}\n`);
}

async function main(): Promise<number> {
  const { command, rebuild, help, console: showConsole, ...options } = parseOptions(process.argv.slice(2));
  if (help) {
    process.stdout.write(usage);
    return 0;
  }
  if (rebuild) await prepareImage({ rebuild });
  const reason = await labUnavailable();
  if (reason !== undefined) throw new LabError("UNAVAILABLE", reason);
  if (rebuild && command.length === 0) return 0;

  const stop = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => stop.abort(signal));
  try {
    return await connectLab(command, process, {
      ...options,
      ...(showConsole ? { onConsole: (chunk: Buffer) => void process.stderr.write(chunk) } : {}),
      signal: stop.signal,
    });
  } catch (error) {
    if (!stop.signal.aborted) throw error;
    return 128 + constants.signals[stop.signal.reason as NodeJS.Signals];
  }
}

function statusOf(error: unknown): number {
  complain(error instanceof LabError ? error.message : String(error instanceof Error ? error.stack : error));
  return error instanceof LabError && error.code === "TIMEOUT" ? timeIsUp : labFailed;
}

const status = await main().catch(statusOf);
// What was written must be out before the end; our own stdin may stay open for ever and must not keep us here.
await Promise.all(
  [process.stdout, process.stderr].map((to) => new Promise<void>((done) => to.write("", () => done()))),
);
process.exit(status);
