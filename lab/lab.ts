/**
 * A disposable Debian host with a real kvm-amd, for commands and tests that need one:
 *
 *     const { stdout, stderr, status } = await runInLab(["node", "--test", "packages/kvm"]);
 *
 * See docs/lab.md.
 */

import { randomBytes } from "node:crypto";
import { statSync } from "node:fs";
import { delimiter, dirname } from "node:path";
import { Readable, Writable } from "node:stream";
import { LabError } from "./errors.ts";
import { prepareImage } from "./image.ts";
import { encodeJob } from "./job.ts";
import { MarkedStream } from "./output.ts";
import { startQemu } from "./qemu.ts";
import { missingTools, toolsToRun } from "./tools.ts";

export { LabError } from "./errors.ts";
export { type LabImage, prepareImage } from "./image.ts";

export type LabOptions = {
  /** Added to what the lab passes by itself; see `labEnvironment`. */
  env?: Readonly<Record<string, string>>;
  /** Default: the caller's own. */
  cwd?: string;
  /** For all of it, start included. Default: none. */
  timeoutMs?: number;
  cpus?: number;
  memoryMiB?: number;
  /** Called with what the guest's kernel says. */
  onConsole?: (chunk: Buffer) => void;
  /** Ends the lab; the promise is then rejected with the signal's reason. */
  signal?: AbortSignal;
};

export type LabResult = {
  stdout: string;
  stderr: string;
  /** stdout as it came, for what is not text. */
  stdoutBytes: Buffer;
  /** As a shell gives it: 128 + n for a command ended by signal n, 127 for one not found. */
  status: number;
};

const bootLimitMs = 120_000;
const passed = /^(HOME|USER|LANG|LC_\w+|TZ|TERM|CI|NO_COLOR|FORCE_COLOR|LODGE_\w+|XDG_CACHE_HOME)$/;

/** What of the caller's environment goes inside: little, so that a run depends on little. */
export function labEnvironment(cwd: string): Record<string, string> {
  const env: Record<string, string> = {};
  for (const [name, value] of Object.entries(process.env)) {
    if (value !== undefined && passed.test(name)) env[name] = value;
  }
  env.NODE = process.execPath;
  env.PATH = [dirname(process.execPath), process.env.PATH ?? "/usr/sbin:/usr/bin:/sbin:/bin"].join(delimiter);
  env.PWD = cwd;
  env.LODGE_LAB = "1";
  return env;
}

/** Why the lab cannot run here, for tests to skip with. Builds the lab if that was not done yet (some seconds, once). */
export async function labUnavailable(): Promise<string | undefined> {
  if (process.env.LODGE_LAB !== undefined) return "this is the lab itself";
  if (process.platform !== "linux" || process.arch !== "x64") {
    return `the lab shares the host's programs with an x86-64 guest; this is ${process.platform} on ${process.arch}`;
  }
  const missing = missingTools(toolsToRun);
  if (missing !== undefined) return missing;
  try {
    await prepareImage();
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

function workingDirectory(cwd: string): string {
  if (!statSync(cwd, { throwIfNoEntry: false })?.isDirectory()) throw new LabError("USAGE", `not a directory: ${cwd}`);
  return cwd;
}

/**
 * Boots a lab, runs one command in it with the given streams and returns its status. The lab is gone afterwards, however it
 * ends. Rejects with a LabError when the lab, not the command, failed.
 */
export async function connectLab(
  argv: readonly string[],
  streams: { stdin: Readable; stdout: Writable; stderr: Writable },
  options: LabOptions = {},
): Promise<number> {
  options.signal?.throwIfAborted();
  const cwd = workingDirectory(options.cwd ?? process.cwd());
  const mark = `lodge-lab-end-${randomBytes(16).toString("hex")}`;
  const env = { ...labEnvironment(cwd), ...options.env };
  const image = await prepareImage();
  const job = () => encodeJob({ argv, env, cwd, mark, modules: image.modules, nowMs: Date.now() });
  job(); // What cannot be encoded is refused before anything starts.

  const size = { cpus: options.cpus ?? 2, memoryMiB: options.memoryMiB ?? 4096 };
  const qemu = startQemu(image, size, options.onConsole);
  const { channel } = qemu;
  const timers: NodeJS.Timeout[] = [];
  let onAbort: (() => void) | undefined;
  let ready = false;
  try {
    return await new Promise<number>((resolve, reject) => {
      const limit = (ms: number, problem: () => LabError | undefined) => {
        const expire = () => {
          const error = problem();
          if (error !== undefined) reject(error);
        };
        timers.push(setTimeout(expire, ms));
      };
      limit(bootLimitMs, () =>
        ready ? undefined : new LabError("BOOT", `the lab did not start in ${bootLimitMs / 1000} s\n${qemu.console()}`),
      );
      if (options.timeoutMs !== undefined) {
        const seconds = options.timeoutMs / 1000;
        limit(options.timeoutMs, () => {
          const what = ready ? "the command did not end" : "the lab did not start";
          return new LabError("TIMEOUT", `${what} within ${seconds} s (timeout)`);
        });
      }
      const { signal } = options;
      if (signal !== undefined) {
        onAbort = () => reject(signal.reason);
        signal.addEventListener("abort", onAbort, { once: true });
      }
      void qemu.gone.then((how) => {
        const when = ready ? "before its command did" : "while it started";
        reject(new LabError("BOOT", `the lab ended ${when} (QEMU: ${how})\n${qemu.console()}`));
      });

      const ends = { stdout: new MarkedStream(mark), stderr: new MarkedStream(mark) };
      const deliver = (name: "stdout" | "stderr", chunk: Buffer) => {
        const data = ends[name].push(chunk);
        if (data.length > 0 && !streams[name].write(data)) {
          channel[name].pause();
          streams[name].once("drain", () => channel[name].resume());
        }
        const status = /^(\d+)\n/.exec(ends.stderr.rest)?.[1];
        if (ends.stdout.ended && status !== undefined) resolve(Number(status));
      };
      channel.stdout.on("data", (chunk: Buffer) => deliver("stdout", chunk));

      // The first line on the last port is the lab's own: see guest/run.
      const greeting = "ready\n";
      let heard = Buffer.alloc(0);
      channel.stderr.on("data", (chunk: Buffer) => {
        if (ready) return deliver("stderr", chunk);
        heard = Buffer.concat([heard, chunk]);
        if (heard.length < greeting.length) return;
        ready = true;
        channel.job.end(job());
        // Ending it shuts only our half: QEMU then passes on what it has before it tells the guest.
        streams.stdin.pipe(channel.stdin);
        if (heard.length > greeting.length) deliver("stderr", heard.subarray(greeting.length));
      });
    });
  } finally {
    for (const timer of timers) clearTimeout(timer);
    if (onAbort !== undefined) options.signal?.removeEventListener("abort", onAbort);
    streams.stdin.unpipe(channel.stdin);
    qemu.kill();
    await qemu.gone;
  }
}

class Collector extends Writable {
  readonly #chunks: Buffer[] = [];

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.#chunks.push(chunk);
    done();
  }

  get bytes(): Buffer {
    return Buffer.concat(this.#chunks);
  }
}

/** Runs one command in a lab of its own and returns what it said; the LabError of one that did not end says it, too. */
export async function runInLab(
  argv: readonly string[],
  options: LabOptions & { stdin?: string | Uint8Array | Readable } = {},
): Promise<LabResult> {
  const { stdin = "", ...rest } = options;
  const stdout = new Collector();
  const stderr = new Collector();
  const input = stdin instanceof Readable ? stdin : Readable.from([Buffer.from(stdin)]);
  const status = await connectLab(argv, { stdin: input, stdout, stderr }, rest).catch((error) => {
    const said = `${stdout.bytes}${stderr.bytes}`;
    if (error instanceof LabError && said !== "") error.message += `\n${said}`;
    throw error;
  });
  const stdoutBytes = stdout.bytes;
  return { stdout: stdoutBytes.toString(), stderr: stderr.bytes.toString(), stdoutBytes, status };
}
