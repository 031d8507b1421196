/** The KVM interface in TypeScript against the same in C: exits, creating a machine, resident memory. */

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { BUILD, compileC } from "../compile.ts";
import { compare, type Figure, median, type Results } from "../harness.ts";
import { resident } from "./smaps.ts";

// Of one round. Many short ones: what a host takes from the processor for a moment meets both sides alike.
const EXITS = 5000;
const MACHINES = 20;
const MIB = 2 ** 20;

export default async function run(): Promise<Results> {
  using _ = await heldMachine();
  using ours = new OurSide();
  const comparisons = [
    await compare({
      what: "exit round trip, port write",
      unit: "ns",
      ours: () => ours.ask(`exits ${EXITS}`),
      theirs: () => c("exits", EXITS)[0]!,
      rounds: 101,
      limit: 1.1,
    }),
    await compare({
      what: "machine to its first instruction",
      unit: "us",
      ours: async () => (await ours.ask(`create ${MACHINES}`)) / 1000,
      theirs: () => median(c("create", MACHINES)) / 1000,
      rounds: 15,
      limit: 1.5,
    }),
    await compare({
      what: "the first machine of a process",
      unit: "us",
      ours: () => Number(node(child, "create")) / 1000,
      theirs: () => c("create", 1)[0]! / 1000,
      rounds: 15,
    }),
  ];
  return { against: "C", comparisons, figures: memory() };
}

/** A machine of another process meanwhile: the first of a host switches virtualization on, which is neither side's cost. */
async function heldMachine(): Promise<Disposable> {
  const holder = spawn(program(), ["hold"], { stdio: ["pipe", "pipe", "inherit"] });
  await once(holder.stdout, "data");
  return { [Symbol.dispose]: () => holder.stdin.end() };
}

/** Resident memory, the guest's not counted: what each step adds. */
function memory(): Figure[] {
  const steps = {
    "Node alone": node("--input-type=module", "--eval", PRINT_SMAPS),
    "with Lodge's packages": node(child, "packages"),
    "with a machine": node(child, "machine"),
    "the C program with a machine": execFileSync(program(), ["memory"], { encoding: "utf8" }),
  };
  return Object.entries(steps).map(([what, smaps]) => ({
    what: `resident: ${what}`,
    unit: "MiB",
    value: resident(smaps).rss / MIB,
  }));
}

const PRINT_SMAPS =
  'import { readFileSync } from "node:fs"; process.stdout.write(readFileSync("/proc/self/smaps", "utf8"))';
const child = join(import.meta.dirname, "child.ts");

let compiled: string | undefined;
function program(): string {
  compiled ??= compileC(join(import.meta.dirname, "machine.c"));
  return compiled;
}

function c(command: string, count: number): number[] {
  return execFileSync(program(), [command, String(count)], { encoding: "utf8" })
    .trim()
    .split("\n")
    .map(Number);
}

/** Node as the lodge command starts it: sources that were run once before are not compiled anew. */
const asLodge = { ...process.env, NODE_COMPILE_CACHE: join(BUILD, "compiled") };

function node(...args: string[]): string {
  return execFileSync(process.execPath, args, { encoding: "utf8", env: asLodge });
}

/** One process for all rounds. Node's compiler of types is not in it, because all that it loads has been run before. */
class OurSide implements Disposable {
  readonly #answers: AsyncIterator<string>;
  readonly #send: (line: string) => void;
  readonly #end: () => void;

  constructor() {
    node(child, "create");
    const { stdin, stdout } = spawn(process.execPath, [child, "serve"], {
      stdio: ["pipe", "pipe", "inherit"],
      env: asLodge,
    });
    this.#answers = createInterface({ input: stdout })[Symbol.asyncIterator]();
    this.#send = (line) => stdin.write(`${line}\n`);
    this.#end = () => stdin.end();
  }

  async ask(line: string): Promise<number> {
    this.#send(line);
    const { done, value } = await this.#answers.next();
    if (done) throw new Error("the process that makes our machines has ended");
    return Number(value);
  }

  [Symbol.dispose](): void {
    this.#end();
  }
}
