/**
 * Runs benchmarks and prints what they found, as ratios of one run.
 *
 *     npm run bench -- [--json] [--quick] [NAME...]       without a name: all of them
 *
 * `--quick` takes fewer rounds, where a benchmark knows how. `cpu:NAME` is one workload of the benchmark cpu,
 * `storage:convert` one part of that; `boot:kvm` is on real KVM, in the lab.
 */

import { readFileSync } from "node:fs";
import { availableParallelism, release } from "node:os";
import { parseArgs } from "node:util";
import { table } from "./table.ts";

/** What a benchmark found, for programs and as text. */
interface Report {
  results: unknown;
  text: string;
}

interface Options {
  quick: boolean;
  /** Parts of the benchmark; none: all. */
  only: readonly string[];
}

const benchmarks: Record<string, (options: Options) => Promise<Report>> = {
  kvm: async () => {
    const results = await (await import("./kvm/main.ts")).default();
    return { results, text: table(results) };
  },
  idle: async (options) => {
    const results = await (await import("./idle/main.ts")).default(options);
    return { results, text: table(results) };
  },
  kick: async (options) => {
    const results = await (await import("./kick/main.ts")).default(options);
    return { results, text: table(results) };
  },
  ports: async (options) => {
    const results = (await import("./ports/main.ts")).default(options);
    return { results, text: table(results) };
  },
  boot: async (options) => {
    const results = await (await import("./boot/main.ts")).default(options);
    return { results, text: table(results) };
  },
  blk: async (options) => {
    const results = await (await import("./blk/main.ts")).default(options);
    return { results, text: table(results) };
  },
  storage: async (options) => {
    const results = await (await import("./storage/main.ts")).default(options);
    return { results, text: table(results) };
  },
  network: async (options) => {
    const results = await (await import("./network/main.ts")).default(options);
    return { results, text: table(results) };
  },
  cpu: async (options) => {
    const { cpuTable, default: run } = await import("./cpu/main.ts");
    const results = await run(options);
    return { results, text: cpuTable(results) };
  },
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { json: { type: "boolean" }, quick: { type: "boolean", default: false } },
});
/** By benchmark, which of its parts. */
const chosen = new Map<string, string[]>(
  positionals.length > 0 ? [] : Object.keys(benchmarks).map((name) => [name, []]),
);
for (const positional of positionals) {
  const [name = "", part] = positional.split(":");
  chosen.set(name, [...(chosen.get(name) ?? []), ...(part === undefined ? [] : [part])]);
}
const unknown = [...chosen.keys()].filter((name) => !Object.hasOwn(benchmarks, name));
if (unknown.length > 0) {
  console.error(`bench: no benchmark ${unknown.join(", ")}; there are: ${Object.keys(benchmarks).join(", ")}`);
  process.exit(2);
}

const cpu = /^model name\s*: (.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1] ?? process.arch;
const host = { cpu, cores: availableParallelism(), kernel: release(), node: process.version };
if (!values.json) console.log(`${host.cpu}, ${host.cores} cores; Linux ${host.kernel}, Node ${host.node}`);

const results: Record<string, unknown> = {};
for (const [name, only] of chosen) {
  const report = await benchmarks[name]!({ quick: values.quick, only });
  results[name] = report.results;
  if (!values.json) console.log(`\n${name}\n\n${report.text}`);
}
if (values.json) console.log(JSON.stringify({ host, results }, null, 2));
