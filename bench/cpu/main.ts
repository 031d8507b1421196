/**
 * The software processor against QEMU's TCG: bare-metal programs that both boot, whole runs in turn. Speeds are by the
 * time from the workload's start to its end inside the run, so that neither side's start counts; that is told apart.
 */

import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { compileC } from "../compile.ts";
import { median } from "../harness.ts";
import { align } from "../table.ts";
import { compileGuest, type Scaling, scalings, type Workload, workloads } from "./programs.ts";
import type { Outcome } from "./protocol.ts";
import { runTcg } from "./qemu.ts";

export interface CpuOptions {
  /** Fewer rounds. */
  quick?: boolean;
  /** Names of workloads; without one, all. */
  only?: readonly string[];
}

/** Of the rounds of one side: medians in milliseconds. */
interface Side {
  ms: number;
  /** The process from its start to its end. */
  wholeMs: number;
  checksums: string[];
  failure?: string;
}

export interface Row {
  what: string;
  unit: "ms" | "×";
  ours: number;
  tcg: number;
  /** Whole processes, in ms. */
  whole?: { ours: number; tcg: number };
  /** Our speed as a multiple of TCG's; of scaling, of one processor's. */
  ratio: number;
  /** Undefined: it is only told. */
  must?: number | undefined;
  aim?: number | undefined;
  /** Of scaling: what two threads of a native program do against one, in the same rounds, and ours as a share of that. */
  host?: number;
  ofHost?: number;
  /** Why the row has no figures, or that checksums differ. */
  failure?: string;
}

export interface CpuResults {
  rounds: number;
  rows: Row[];
}

export default async function run({ quick = false, only = [] }: CpuOptions = {}): Promise<CpuResults> {
  const rounds = quick ? 1 : 5;
  const wanted = (name: string) => only.length === 0 || only.includes(name);
  const rows: Row[] = [];
  for (const workload of workloads) {
    if (!wanted(workload.name)) continue;
    const { what, must, aim } = workload;
    const { ours, tcg } = await compareRuns(workload, rounds);
    const whole = { ours: ours.wholeMs, tcg: tcg.wholeMs };
    rows.push({
      what,
      unit: "ms",
      ours: ours.ms,
      tcg: tcg.ms,
      whole,
      ratio: tcg.ms / ours.ms,
      must,
      aim,
      ...failureOf(ours, tcg),
    });
  }
  for (const scaling of scalings) if (wanted(scaling.name)) rows.push(await scale(scaling, rounds));
  return { rounds, rows };
}

/** One processor and then two, of each side and of the host itself in turn: what cores are worth changes by the minute. */
async function scale({ what, must, aim, programs, hostRounds }: Scaling, rounds: number): Promise<Row> {
  const compiled = { 1: compileGuest(programs[1]), 2: compileGuest(programs[2]) };
  const threads = compileC(join(import.meta.dirname, "threads.c"), ["-pthread"]);
  const run = {
    ours: (count: 1 | 2) => runSoft(compiled[count], count),
    tcg: (count: 1 | 2) => runTcg(compiled[count], count),
    host: (count: 1 | 2) => runThreads(threads, count, hostRounds),
  };
  const names = ["ours", "tcg", "host"] as const;
  const ratios = { ours: [] as number[], tcg: [] as number[], host: [] as number[] };
  const outcomes = { ours: [] as Outcome[], tcg: [] as Outcome[], host: [] as Outcome[] };
  for (let round = 0; round < rounds; round++) {
    for (let turn = 0; turn < names.length; turn++) {
      const name = names[(round + turn) % names.length]!;
      const ms = { 1: Number.NaN, 2: Number.NaN };
      for (const count of round % 2 === 0 ? ([1, 2] as const) : ([2, 1] as const)) {
        const outcome = await run[name](count);
        outcomes[name].push(outcome);
        ms[count] = outcome.ms ?? Number.NaN;
      }
      ratios[name].push((2 * ms[1]) / ms[2]);
    }
  }
  const ours = median(ratios.ours);
  const ofHost = median(ratios.ours.map((ratio, round) => ratio / ratios.host[round]!));
  const figures = { ours, tcg: median(ratios.tcg), ratio: ours, host: median(ratios.host), ofHost };
  const failed = [...outcomes.ours, ...outcomes.tcg, ...outcomes.host].find(
    ({ failure, ms }) => failure !== undefined || ms === undefined,
  );
  // The host's program is another one.
  const sums = new Set([...outcomes.ours, ...outcomes.tcg].map(({ checksum }) => checksum));
  const failure =
    failed !== undefined
      ? (failed.failure ?? "ended without a word")
      : sums.size > 1
        ? `checksums differ: ${[...sums].join(", ")}`
        : undefined;
  return { what, unit: "×", ...figures, must, aim, ...(failure !== undefined && { failure }) };
}

async function runThreads(program: string, count: number, rounds: number): Promise<Outcome> {
  const { stdout } = await promisify(execFile)(program, [String(count), String(rounds)]);
  const [ms, checksum] = stdout.trim().split(" ");
  return { ms: Number(ms), checksum: checksum! };
}

export function cpuTable({ rows }: CpuResults): string {
  const cells = rows.map(({ what, unit, ours, tcg, whole, ratio, must, aim, host, ofHost, failure }) =>
    failure === undefined
      ? [
          what,
          ...[ours, tcg].map((figure) => `${figure.toFixed(unit === "ms" ? 0 : 2)} ${unit}`),
          ...(whole === undefined ? ["", ""] : [`${whole.ours.toFixed(0)} ms`, `${whole.tcg.toFixed(0)} ms`]),
          ratio.toFixed(2),
          limit(must),
          limit(aim),
          host === undefined ? "" : `${host.toFixed(2)} ×`,
          verdict(ratio, must, aim, ofHost),
        ]
      : [what, "", "", "", "", "", limit(must), limit(aim), "", failure],
  );
  return align([["", "ours", "TCG", "whole run", "TCG", "speed", "must", "aim", "host", ""], ...cells]);
}

function limit(times?: number): string {
  return times?.toFixed(1) ?? "";
}

function verdict(ratio: number, must = 0, aim = 0, ofHost?: number): string {
  const word = ratio >= aim ? "" : ratio >= must ? "below aim" : "short";
  if (ofHost === undefined) return word;
  return `${word}${word && "; "}${(100 * ofHost).toFixed(0)} % of the host's`;
}

function failureOf(ours: Side, tcg: Side): { failure?: string } {
  const failure = ours.failure ?? (tcg.failure && `TCG: ${tcg.failure}`);
  if (failure !== undefined) return { failure };
  const sums = new Set([...ours.checksums, ...tcg.checksums]);
  return sums.size === 1 ? {} : { failure: `checksums differ: ${[...sums].join(", ")}` };
}

/** Both sides in turn; who begins changes with every round. */
async function compareRuns(workload: Workload, rounds: number): Promise<{ ours: Side; tcg: Side }> {
  const program = compileGuest(workload);
  const sides = {
    ours: { run: () => runSoft(program, 1), outcomes: [] as Outcome[], wholeMs: [] as number[] },
    tcg: { run: () => runTcg(program, 1), outcomes: [] as Outcome[], wholeMs: [] as number[] },
  };
  for (let round = 0; round < rounds; round++) {
    for (const name of round % 2 === 0 ? (["ours", "tcg"] as const) : (["tcg", "ours"] as const)) {
      const side = sides[name];
      const start = performance.now();
      side.outcomes.push(await side.run());
      side.wholeMs.push(performance.now() - start);
    }
  }
  return { ours: summary(sides.ours), tcg: summary(sides.tcg) };
}

function summary({ outcomes, wholeMs }: { outcomes: readonly Outcome[]; wholeMs: readonly number[] }): Side {
  const failed = outcomes.find(({ failure, ms }) => failure !== undefined || ms === undefined);
  return {
    ms: median(outcomes.map(({ ms }) => ms ?? Number.NaN)),
    wholeMs: median(wholeMs),
    checksums: outcomes.map(({ checksum }) => checksum ?? "none"),
    ...(failed && { failure: failed.failure ?? "ended without a word" }),
  };
}

async function runSoft(program: string, processors: number): Promise<Outcome> {
  const script = join(import.meta.dirname, "soft.ts");
  const { stdout } = await promisify(execFile)(process.execPath, [script, program, String(processors)]);
  return JSON.parse(stdout) as Outcome;
}
