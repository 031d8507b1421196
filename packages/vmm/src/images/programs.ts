/** The host's programs that images are built with, and what to do about those that are missing. */

import { execFile } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";
import { VmmError } from "../errors.ts";

/** The Debian package of each. */
const PACKAGES = {
  "apt-get": "apt",
  "apt-cache": "apt",
  "dpkg-deb": "dpkg",
  tar: "tar",
  xz: "xz-utils",
  mmdebstrap: "mmdebstrap",
  mke2fs: "e2fsprogs",
  fakeroot: "fakeroot",
  newuidmap: "uidmap",
  newgidmap: "uidmap",
  sh: "dash",
} as const;

export type Program = keyof typeof PACKAGES;

/** Where a program is, or undefined. Administrators' folders count, too, which are not on every user's PATH. */
export function findProgram(name: string): string | undefined {
  for (const directory of [...(process.env.PATH ?? "").split(delimiter), "/usr/sbin", "/usr/bin", "/sbin", "/bin"]) {
    if (directory === "") continue;
    const path = join(directory, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not in this directory: the next one may have it.
    }
  }
  return undefined;
}

/** Refuses, in one line that names all of them, when some are missing. */
export function requirePrograms(programs: readonly Program[], purpose: string): void {
  const missing = programs.filter((program) => findProgram(program) === undefined);
  if (missing.length === 0) return;
  const packages = [...new Set(missing.map((program) => PACKAGES[program]))].join(" ");
  throw new VmmError("VMM_TOOL_MISSING", `${purpose} needs ${missing.join(", ")}: apt-get install ${packages}`);
}

const LARGEST_OUTPUT_BYTES = 512 * 1024 * 1024;

/** Runs a program to its end and returns its stdout; what it said on stderr is in the error if it fails. */
export function runProgram(
  program: Program,
  args: readonly string[],
  { cwd, input, signal }: { cwd?: string; input?: Uint8Array; signal?: AbortSignal | undefined } = {},
): Promise<Buffer> {
  const path = findProgram(program);
  if (path === undefined) requirePrograms([program], "this");
  const options = {
    encoding: "buffer" as const,
    maxBuffer: LARGEST_OUTPUT_BYTES,
    env: { ...process.env, LC_ALL: "C", DEBIAN_FRONTEND: "noninteractive" },
    ...(cwd === undefined ? {} : { cwd }),
    ...(signal === undefined ? {} : { signal }),
  };
  return new Promise((resolve, reject) => {
    const child = execFile(path!, args, options, (error, stdout, stderr) => {
      if (error === null) return resolve(stdout);
      if (error.name === "AbortError") return reject(error);
      const said = stderr.toString().trim().split("\n").slice(-3).join("; ");
      const how = typeof error.code === "number" ? `status ${error.code}` : (error.signal ?? error.message);
      reject(
        new VmmError(
          "VMM_IMAGE",
          `${program} ${args.find((arg) => !arg.startsWith("-")) ?? ""} failed (${how}): ${said}`,
        ),
      );
    });
    // A program that ends early closes its input; its status says why.
    child.stdin?.on("error", () => {});
    child.stdin?.end(input);
  });
}
