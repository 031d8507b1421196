/** The host's own tools, which know its storage. */

import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { StorageError } from "../errors.ts";

const execute = promisify(execFile);
/** Administrators' programs, which the paths of other users lack. */
const PATH = `${process.env.PATH ?? ""}:/usr/local/sbin:/usr/sbin:/sbin`;
/** A server that does not answer is no reason to wait for ever. */
const PATIENCE_MS = 120_000;
const MAX_OUTPUT_BYTES = 16 << 20;

/** A program, and Debian's package that has it. */
export interface Tool {
  program: string;
  package: string;
}

/** Runs it; its output. `STORAGE_HOST` says what is missing, or what the tool says. */
export async function run(tool: Tool, ...args: string[]): Promise<string> {
  try {
    const env = { ...process.env, PATH, LC_ALL: "C" };
    const { stdout } = await execute(tool.program, args, { env, timeout: PATIENCE_MS, maxBuffer: MAX_OUTPUT_BYTES });
    return stdout;
  } catch (cause) {
    const { code, stderr = "", message } = cause as NodeJS.ErrnoException & { stderr?: string };
    if (code === "ENOENT") {
      const where = `Debian has it in the package ${tool.package}`;
      throw new StorageError("STORAGE_HOST", `${tool.program} is not installed on this host: ${where}`, { cause });
    }
    // Warnings come before what stopped it.
    const said = stderr.trim().split("\n").at(-1)?.trim() || message;
    throw new StorageError("STORAGE_HOST", `${tool.program} ${args[0] ?? ""}: ${said}`, { cause });
  }
}

/** The same where the output is JSON. */
export async function runJson(tool: Tool, ...args: string[]): Promise<unknown> {
  const text = await run(tool, ...args);
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new StorageError("STORAGE_HOST", `${tool.program}: its output is no JSON; its version may be too old`, {
      cause,
    });
  }
}
