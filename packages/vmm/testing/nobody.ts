/** The command as the user nobody, who may do little and has nothing. */

import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { findProgram } from "../src/images/programs.ts";

export const NOBODY = 65534;

const lodge = join(import.meta.dirname, "../../cli/bin/lodge.js");

const become = (...command: string[]) => [`--reuid=${NOBODY}`, `--regid=${NOBODY}`, "--clear-groups", "--", ...command];

/** `lodge ARGUMENT...` as nobody: a program and its arguments. */
export function asNobody(...args: string[]): [program: string, ...args: string[]] {
  return ["setpriv", ...become(process.execPath, lodge, ...args)];
}

/** Why it cannot be tried here, for `skip`. */
export function notNobody(...programs: string[]): string | false {
  if (process.getuid?.() !== 0) return "only root can be another user";
  const missing = ["setpriv", ...programs].filter((name) => findProgram(name) === undefined);
  if (missing.length > 0) return `${missing.join(", ")} not installed`;
  const readable = become("sh", "-c", 'test -r "$0" && test -x "$1"', lodge, process.execPath);
  return spawnSync("setpriv", readable).status === 0 ? false : "others may not read this clone";
}
