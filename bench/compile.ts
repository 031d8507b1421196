/** C programs that benchmarks are held against. */

import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { basename, join } from "node:path";

/** Outside git. */
export const BUILD = join(import.meta.dirname, "../build/bench");

/** Compiles one source file with gcc -O2 and returns the program's path. */
export function compileC(source: string, flags: readonly string[] = []): string {
  mkdirSync(BUILD, { recursive: true });
  const program = join(BUILD, basename(source, ".c"));
  execFileSync("gcc", ["-O2", "-Wall", "-Wextra", "-Werror", ...flags, "-o", program, source], {
    stdio: ["ignore", "ignore", "inherit"],
  });
  return program;
}
