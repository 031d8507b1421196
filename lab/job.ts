/**
 * The job as the guest receives it: a shell script that sets a few variables and defines `command`. Single quotes carry
 * every byte but NUL unchanged, and NUL cannot stand in an argument anyway.
 */

import { LabError } from "./errors.ts";

export type Job = {
  argv: readonly string[];
  env: Readonly<Record<string, string>>;
  cwd: string;
  /** What stands at the end of both output streams; see output.ts. */
  mark: string;
  /** Directory of the kernel's modules, as the guest sees it. */
  modules: string;
  nowMs: number;
};

export function quote(word: string): string {
  if (word.includes("\0")) throw new LabError("USAGE", "an argument or variable contains a NUL byte");
  return `'${word.replaceAll("'", "'\\''")}'`;
}

export function encodeJob(job: Job): string {
  if (job.argv.length === 0) throw new LabError("USAGE", "no command given");
  const variables = Object.entries(job.env).map(([name, value]) => {
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) {
      throw new LabError("USAGE", `not the name of an environment variable: ${JSON.stringify(name)}`);
    }
    return quote(`${name}=${value}`);
  });
  return [
    `now=${(job.nowMs / 1000).toFixed(3)}`,
    `mark=${quote(job.mark)}`,
    `modules=${quote(job.modules)}`,
    "command() {",
    `  cd -- ${quote(job.cwd)} || exit 125`,
    // By path: busybox's own versions would start busybox's applets in place of the host's programs.
    // setsid stands between env and the command because env would take a command named a=b for a variable, and because
    // a command that signals its process group must not reach the lab's own processes.
    `  exec /usr/bin/env -i ${variables.join(" ")} /usr/bin/setsid -- ${job.argv.map(quote).join(" ")}`,
    "}",
    "",
  ].join("\n");
}
