/** The workloads, each a bare-metal program under guest/, and how it is compiled. */

import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { BUILD } from "../compile.ts";

/** A bare-metal program. */
export interface Program {
  readonly name: string;
  readonly source: string;
  readonly flags: readonly string[];
}

/** Speeds as multiples of TCG's: what the issue asks for, and what it hopes for. */
export interface Workload extends Program {
  readonly what: string;
  readonly must: number;
  readonly aim: number;
}

const INTEGER = ["-mgeneral-regs-only"];

export const workloads: readonly Workload[] = [
  { name: "integer", what: "lists, matrices, states, CRC", must: 1, aim: 2, source: "integer.c", flags: INTEGER },
  { name: "sha256", what: "sha256 of 64 MiB", must: 1, aim: 2, source: "sha256.c", flags: INTEGER },
  { name: "loops", what: "memcpy, memset, strlen loops", must: 1, aim: 2, source: "loops.c", flags: INTEGER },
  { name: "strings", what: "rep movs, stos, scas", must: 1, aim: 2, source: "strings.c", flags: INTEGER },
  { name: "sse2", what: "SSE2 doubles", must: 2, aim: 8, source: "sse2.c", flags: ["-O3", "-msse2"] },
  { name: "x87", what: "x87", must: 0.7, aim: 1, source: "x87.c", flags: ["-mfpmath=387", "-mno-sse"] },
  { name: "calls", what: "indirect calls", must: 0.8, aim: 1.5, source: "calls.c", flags: INTEGER },
  { name: "recursion", what: "deep recursion", must: 0.8, aim: 1.5, source: "recursion.c", flags: INTEGER },
  { name: "switch", what: "interpreter loop", must: 0.8, aim: 1.5, source: "switch.c", flags: INTEGER },
  { name: "syscalls", what: "system calls", must: 0.8, aim: 1.5, source: "syscalls.c", flags: INTEGER },
  { name: "faults", what: "page faults", must: 0.8, aim: 1.5, source: "faults.c", flags: INTEGER },
  { name: "cold", what: "5 MiB of code, once", must: 0.5, aim: 1, source: "cold.c", flags: INTEGER },
];

/** The same work on one processor and on two at a time: their speed together, as a multiple of one's. */
export interface Scaling {
  readonly name: string;
  readonly what: string;
  readonly must?: number;
  readonly aim?: number;
  /** By the number of processors. */
  readonly programs: Readonly<Record<1 | 2, Program>>;
  /** For threads.c, which takes much the same time by that. */
  readonly hostRounds: number;
}

/**
 * Two processors are worth what they do as they go on. What each does once as it begins is apart: compilers, which work beside one
 * processor and in competition with two, and which a tenth of a second mostly is.
 */
export const scalings: readonly Scaling[] = [
  { name: "processors", what: "two vCPUs, both busy", must: 1.8, aim: 2, ...busyFor(120_000) },
  { name: "processors-begin", what: "their first tenth of a second", ...busyFor(6000) },
];

function busyFor(rounds: number): Pick<Scaling, "programs" | "hostRounds"> {
  const on = (count: 1 | 2): Program => ({
    name: `processors-${count}-${rounds}`,
    source: "processors.c",
    flags: [...INTEGER, `-DPROCESSORS=${count}`, `-DROUNDS=${rounds}`],
  });
  return { programs: { 1: on(1), 2: on(2) }, hostRounds: 4 * rounds };
}

const FLAGS = [
  ...["-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-ffreestanding", "-fno-math-errno", "-mno-red-zone"],
  ...["-fno-pic", "-fno-pie", "-fno-stack-protector", "-fcf-protection=none", "-fno-asynchronous-unwind-tables"],
  ...["-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none", "-Wl,-z,noexecstack", "-Wl,--no-warn-rwx-segments"],
];

/** Compiles a program with gcc and returns its path. */
export function compileGuest({ name, source, flags }: Program): string {
  const folder = join(import.meta.dirname, "guest");
  mkdirSync(BUILD, { recursive: true });
  const program = join(BUILD, `cpu-${name}`);
  const sources = ["start.S", "runtime.c", "user.S", source].map((file) => join(folder, file));
  const script = join(folder, "link.ld");
  execFileSync("gcc", [...FLAGS, ...flags, "-T", script, "-o", program, ...sources], {
    stdio: ["ignore", "ignore", "inherit"],
  });
  return program;
}
