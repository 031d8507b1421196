/** `--cpus`, `--numa` and `--pin`: how many vCPUs, how they are arranged, and where they run. */

import { type CpuOptions, type NumaNode, parseCount, parseFields, parseSize, VmmError } from "@lodge/vmm";

export function parseCpus(text: string): CpuOptions {
  const { value, named } = parseFields(text, "--cpus", ["sockets", "cores", "threads"]);
  const arranged = [...named].map(([name, count]) => [name, parseCount(count, `--cpus ${name}`)]);
  return { count: parseCount(value, "--cpus"), ...Object.fromEntries(arranged) };
}

/** `SIZE,cpus=0-1[,distances=10:20]`: one node, may be repeated. Lists are written with colons, as commas part fields. */
export function parseNode(text: string, before: readonly NumaNode[] = []): NumaNode[] {
  const { value, named } = parseFields(text, "--numa", ["cpus", "distances"]);
  const cpus = named.get("cpus");
  if (cpus === undefined) throw new VmmError("VMM_CONFIG", `--numa ${text}: which vCPUs? cpus=0-1 or cpus=0:2`);
  const distances = named
    .get("distances")
    ?.split(":")
    .map((one) => parseCount(one, "--numa distances"));
  const node = { memoryBytes: parseSize(value, "--numa"), cpus: parseList(cpus, "--numa cpus") };
  return [...before, { ...node, ...(distances && { distances }) }];
}

/** What a list of processors may name: enough for every host, and too little to be a burden. */
const MOST = 4096;

/** `0-3:8`: numbers and ranges of them. */
export function parseList(text: string, what: string): number[] {
  return text.split(":").flatMap((part) => {
    const found = /^(\d{1,4})(?:-(\d{1,4}))?$/.exec(part);
    const from = Number(found?.[1]);
    const to = Number(found?.[2] ?? found?.[1]);
    if (found === null || to < from || to >= MOST) {
      throw new VmmError("VMM_CONFIG", `${what} ${JSON.stringify(text)}: it is a list such as 0-3:8`);
    }
    return Array.from({ length: to - from + 1 }, (_, index) => from + index);
  });
}

/** `VCPU=LIST` */
export interface Pin {
  readonly vcpu: number;
  readonly processors: readonly number[];
}

export function parsePin(text: string, before: readonly Pin[] = []): Pin[] {
  const found = /^(\d{1,3})=(.+)$/.exec(text);
  if (found === null) throw new VmmError("VMM_CONFIG", `--pin ${text}: a vCPU and host processors, such as 0=2-3`);
  const vcpu = Number(found[1]);
  if (before.some((one) => one.vcpu === vcpu))
    throw new VmmError("VMM_CONFIG", `--pin ${text}: vCPU ${vcpu} is there twice`);
  return [...before, { vcpu, processors: parseList(found[2]!, "--pin") }];
}

/** What each vCPU may run on, by its number; none that no pin names. */
export function affinityOf(pins: readonly Pin[]): (readonly number[] | undefined)[] {
  const length = Math.max(0, ...pins.map(({ vcpu }) => vcpu + 1));
  return Array.from({ length }, (_, index) => pins.find(({ vcpu }) => vcpu === index)?.processors);
}
