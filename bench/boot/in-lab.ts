/** The comparison of main.ts inside the lab: its commands as JSON in the first argument; the result as JSON. */

import { execFileSync } from "node:child_process";
import { compare } from "../harness.ts";
import { timeToLine } from "./line.ts";

/** On a busy host, loading Lodge's sources takes minutes there. */
const LONGEST_MS = 600_000;

export interface Commands {
  what: string;
  /** Run to its end before all rounds. */
  ahead: string[];
  ours: string[];
  theirs: string[];
  rounds: number;
  limit: number;
}

const { ahead, ours, theirs, ...rest }: Commands = JSON.parse(process.argv[2]!);
execFileSync(ahead[0]!, ahead.slice(1), { stdio: ["ignore", "ignore", "inherit"], timeout: LONGEST_MS });
const time = ([program, ...args]: string[]) => timeToLine(program!, args, LONGEST_MS);
const comparison = await compare({ ...rest, unit: "ms", ours: () => time(ours), theirs: () => time(theirs) });
console.log(JSON.stringify(comparison));
