/**
 * Runs benchmarks and prints what they found, as ratios of one run.
 *
 *     npm run bench -- [--json] [NAME...]       without a name: all of them
 */

import { readFileSync } from "node:fs";
import { availableParallelism, release } from "node:os";
import { parseArgs } from "node:util";
import type { Results } from "./harness.ts";
import { table } from "./table.ts";

const benchmarks: Record<string, () => Promise<Results>> = {
  kvm: async () => (await import("./kvm/main.ts")).default(),
};

const { values, positionals } = parseArgs({ allowPositionals: true, options: { json: { type: "boolean" } } });
const names = positionals.length > 0 ? positionals : Object.keys(benchmarks);
const unknown = names.filter((name) => !Object.hasOwn(benchmarks, name));
if (unknown.length > 0) {
  console.error(`bench: no benchmark ${unknown.join(", ")}; there are: ${Object.keys(benchmarks).join(", ")}`);
  process.exit(2);
}

const cpu = /^model name\s*: (.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1] ?? process.arch;
const host = { cpu, cores: availableParallelism(), kernel: release(), node: process.version };
if (!values.json) console.log(`${host.cpu}, ${host.cores} cores; Linux ${host.kernel}, Node ${host.node}`);

const results: Record<string, Results> = {};
for (const name of names) {
  results[name] = await benchmarks[name]!();
  if (!values.json) console.log(`\n${name}\n\n${table(results[name])}`);
}
if (values.json) console.log(JSON.stringify({ host, results }, null, 2));
