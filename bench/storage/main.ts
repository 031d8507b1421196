/** Disk images beside QEMU's tools: the same work by the same kind of command, in turn. */

import { spawnSync } from "node:child_process";
import { mkdtempDisposableSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createImage, openImage } from "@lodge/storage";
import { type Comparison, compare, type Figure, median, type Results } from "../harness.ts";
import { mirrors } from "./mirror.ts";

const LODGE = join(import.meta.dirname, "../../packages/cli/bin/lodge.js");
/** Request after request lands in another cluster and, every few, below another L2 table. */
const STEP = "5111808";
const GIB = 2 ** 30;

/** What `storage:NAME` runs alone. */
const PARTS = ["convert", "requests", "mirrors", "clone", "memory"] as const;

export default async function storage({ quick, only }: { quick: boolean; only: readonly string[] }): Promise<Results> {
  const unknown = only.filter((name) => !PARTS.some((part) => part === name));
  if (unknown.length > 0) throw new Error(`storage has no ${unknown.join(", ")}; there are: ${PARTS.join(", ")}`);
  const wants = (part: (typeof PARTS)[number]) => only.length === 0 || only.includes(part);
  using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-bench-storage-"));
  const at = (name: string) => join(folder.path, name);
  const rounds = quick ? 1 : 5;
  const comparisons = [
    ...(wants("convert") ? [await convert(at, rounds)] : []),
    ...(wants("requests") ? await requests(at, rounds, quick) : []),
    ...(wants("mirrors") ? await mirrors(at, rounds) : []),
  ];
  const figures = [...(wants("clone") ? [await clone(at)] : []), ...(wants("memory") ? await memory(at, quick) : [])];
  return { against: "qemu-img", comparisons, figures };
}

function run(program: string, ...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(program, args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`${program} ${args.join(" ")}: ${stderr || "cannot be run"}`);
  return stdout;
}

const lodge = (...args: string[]) => run(process.execPath, LODGE, "image", ...args);

/** A disk of 4 GiB, of which every other 8 MiB of the first 2 GiB are data. */
async function convert(at: (name: string) => string, rounds: number): Promise<Comparison> {
  const source = at("source.qcow2");
  await createImage(source, { format: "qcow2", sizeBytes: 4 * GIB });
  const image = await openImage(source);
  const data = Buffer.alloc(1 << 20);
  for (let index = 0; index < data.length; index++) data[index] = (index * 2654435761) >>> 13;
  for (let start = 0; start < 2 * GIB; start += 16 << 20) {
    for (let part = 0; part < 8; part++) await image.write(start + part * data.length, [data]);
  }
  await image.close();
  const timed = (work: (target: string) => void) => () => {
    const target = at("target.qcow2");
    rmSync(target, { force: true });
    const start = performance.now();
    work(target);
    return performance.now() - start;
  };
  const result = await compare({
    what: "convert of a 4 GiB qcow2 with 1 GiB of data",
    unit: "ms",
    rounds,
    limit: 1,
    ours: timed((target) => lodge("convert", "-O", "qcow2", source, target)),
    theirs: timed((target) => run("qemu-img", "convert", "-O", "qcow2", source, target)),
  });
  rmSync(source);
  rmSync(at("target.qcow2"), { force: true });
  return result;
}

/** Requests of 4 KiB to clusters that are there, 32 at once; the tools' own times. */
async function requests(at: (name: string) => string, rounds: number, quick: boolean): Promise<Comparison[]> {
  const path = at("requests.qcow2");
  await createImage(path, { format: "qcow2", sizeBytes: GIB, preallocation: "full" });
  const count = quick ? "30000" : "100000";
  const seconds = (text: string) => Number(/completed in ([\d.]+) seconds/.exec(text)![1]) * 1000;
  const both = async (what: string, ...more: string[]) => {
    const options = ["bench", "-f", "qcow2", "-c", count, "-d", "32", "-s", "4096", "-S", STEP, ...more, path];
    const theirs = () => seconds(run("qemu-img", ...options));
    // 0.8 of their requests in a second.
    return await compare({ what, unit: "ms", rounds, limit: 1.25, ours: () => seconds(lodge(...options)), theirs });
  };
  const results = [
    await both(`${count} reads of 4 KiB, 32 at once`),
    await both(`${count} writes of 4 KiB, 32 at once`, "-w"),
  ];
  rmSync(path);
  return results;
}

async function clone(at: (name: string) => string): Promise<Figure> {
  const [base, top] = [at("base.qcow2"), at("clone.qcow2")];
  await createImage(base, { format: "qcow2", sizeBytes: 1024 * GIB });
  const times: number[] = [];
  for (let round = 0; round < 11; round++) {
    rmSync(top, { force: true });
    const start = performance.now();
    await createImage(top, { format: "qcow2", backing: { name: base, format: "qcow2" } });
    times.push(performance.now() - start);
  }
  return { what: "a linked clone of 1 TiB (at most 20)", unit: "ms", value: median(times) };
}

/** What a process grows by when it reads all over a disk of 1 TiB, every cluster of which has its place. */
async function memory(at: (name: string) => string, quick: boolean): Promise<Figure[]> {
  const path = at("large.qcow2");
  run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "preallocation=metadata", path, "1T");
  const script = `
    import { openImage } from "@lodge/storage";
    const idle = process.memoryUsage.rss();
    const image = await openImage(${JSON.stringify(path)}, { format: "qcow2", readOnly: true });
    const pieces = [new Uint8Array(4096)];
    let state = 1;
    for (let count = 0; count < ${quick ? 20_000 : 100_000}; count++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      await image.read(Math.floor((state / 2 ** 32) * (image.sizeBytes / 4096)) * 4096, pieces);
    }
    console.log((process.memoryUsage.rss() - idle) / 2 ** 20);
    await image.close();
  `;
  const grown = run(process.execPath, "--input-type=module", "--eval", script);
  rmSync(path);
  return [{ what: "memory for 1 TiB, randomly read (at most 40)", unit: "MiB", value: Number(grown) }];
}
