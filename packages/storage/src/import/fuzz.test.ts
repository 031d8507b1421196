/** Damaged images of every format: errors that say what, and nothing else. */

import assert from "node:assert/strict";
import { mkdtempDisposableSync, readdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { randomNumbers } from "../../testing/bytes.ts";
import { makeDifferencing } from "../../testing/differencing.ts";
import { missing, run } from "../../testing/peers.ts";
import { StorageError } from "../errors.ts";
import { type Pieces, scatter } from "../file/pieces.ts";
import type { Extent } from "../image.ts";
import { IMPORT_FORMATS, probeImport } from "./open.ts";
import type { Neighbours } from "./parents.ts";
import { ReadOnlyStore } from "./read-only.ts";
import { crc32c } from "./vhdx/crc32c.ts";

const skip = missing("qemu-img", "qemu-io");
/** For each image; whole ones together 100,000. VHDX's checksums of 64 KiB take their time. */
const long = process.env.LODGE_LONG === "1";
const roundsOf = (format: string, kind: string) => {
  const rounds = format === "vhdx" ? 5_600 : 12_700;
  return (kind === "differencing" ? rounds / 4 : rounds) * (long ? 20 : 1);
};

/** Bytes as a store, without a copy. */
class BytesStore extends ReadOnlyStore {
  readonly name = "damaged";
  readonly bytes: Buffer;

  constructor(bytes: Buffer) {
    super();
    this.bytes = bytes;
  }

  get sizeBytes(): number {
    return this.bytes.length;
  }

  override async read(offset: number, pieces: Pieces): Promise<void> {
    assert.ok(Number.isSafeInteger(offset) && offset >= 0, `a read at ${offset}`);
    await super.read(offset, pieces);
  }

  protected override async readInside(offset: number, pieces: Pieces, length: number): Promise<void> {
    scatter(this.bytes.subarray(offset, offset + length), pieces);
  }

  async status(offset: number, length: number): Promise<Extent> {
    assert.ok(offset >= 0 && offset + length <= this.sizeBytes, `the status of ${length} bytes at ${offset}`);
    return { length, zero: false, data: true, present: true, depth: 0 };
  }

  async close(): Promise<void> {}
}

/** The files of a small image, the one that is opened first. `killed`: its writer was, and its log is not carried out. */
async function make(format: string, options: string, killed: boolean): Promise<Buffer[]> {
  using dir = mkdtempDisposableSync(join(tmpdir(), "lodge-fuzz-"));
  if (options === "differencing") {
    const { child, parent } = await makeDifferencing(dir.path, format);
    return [readFileSync(child), readFileSync(parent)];
  }
  const path = join(dir.path, "a");
  const raw = join(dir.path, "raw");
  await run("qemu-img", "create", "-f", "raw", raw, "6M");
  const writes = ["write -P 85 0 512", "write -P 85 3M 512", "write -P 85 5M 512"];
  await run("qemu-io", "-f", "raw", raw, ...writes.flatMap((command) => ["-c", command]));
  await run("qemu-img", "convert", "-f", "raw", "-O", format, "-o", options, raw, path);
  const abort = ["-c", "write -P 85 1M 512", "-c", "write -P 85 4M 512", "-c", "abort"];
  if (killed) await run("qemu-io", "-f", format, path, ...abort).catch(() => {});
  const others = readdirSync(dir.path).filter((name) => name !== "a" && name !== "raw");
  return ["a", ...others].map((name) => readFileSync(join(dir.path, name)));
}

/** Where an image has more than zeros: its headers and tables, and a little data. */
function places(bytes: Buffer): number[] {
  const found: number[] = [];
  for (let at = 0; at < bytes.length; at += 8) {
    const end = Math.min(at + 8, bytes.length);
    if (bytes.subarray(at, end).some((byte) => byte !== 0 && byte !== 85)) found.push(at);
  }
  return found;
}

/** What was somewhere before it was damaged. */
type Before = [at: number, was: Buffer];

type Checked = [at: number, length: number, sum: number];

/** The entries of a VHDX's log have checksums too. */
function logEntries(bytes: Buffer): Checked[] {
  const found: Checked[] = [];
  for (let at = 0; at < bytes.length; at += 4096) {
    if (bytes.toString("latin1", at, at + 4) === "loge") found.push([at, bytes.readUInt32LE(at + 8), 4]);
  }
  return found;
}

/** Makes the checksums right, so that what they guard is read. */
function mend(format: string, bytes: Buffer, checked: Checked[]): Before[] {
  const before: Before[] = [];
  for (const [at, length, sum] of checked) {
    const start = at < 0 ? bytes.length + at : at;
    const part = bytes.subarray(start, start + length);
    before.push([start + sum, Buffer.from(part.subarray(sum, sum + 4))]);
    if (format === "vhdx") part.writeUInt32LE(crc32c(part, sum), sum);
    else {
      let total = 0;
      for (let index = 0; index < length; index++) if (index < sum || index >= sum + 4) total += part[index]!;
      part.writeUInt32BE(~total >>> 0, sum);
    }
  }
  return before;
}

/** Where checksums are: the structure's place, its length, and the checksum's place in it. */
const CHECKED = new Map<string, Checked[]>([
  [
    "vhdx",
    [
      [64 << 10, 4096, 4],
      [128 << 10, 4096, 4],
      [192 << 10, 65536, 4],
      [256 << 10, 65536, 4],
    ],
  ],
  [
    "vpc",
    [
      [0, 512, 64],
      [512, 1024, 36],
      [-512, 512, 64],
    ],
  ],
]);

const VALUES = [0, 1, 2, 3, 7, 0x10, 0x200, 0x10000, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff];

/** Damages some places; what they were, to be put back. */
function damage(bytes: Buffer, where: number[], random: (below: number) => number): Before[] {
  const before: Before[] = [];
  for (let count = 1 + random(3); count > 0; count--) {
    // Mostly the first rows, where headers are.
    const from = random(3) > 0 ? where[random(Math.min(where.length, 40))]! : where[random(where.length)]!;
    const at = Math.min(from + random(8), bytes.length - 8);
    before.push([at, Buffer.from(bytes.subarray(at, at + 8))]);
    const value = VALUES[random(VALUES.length)]!;
    switch (random(5)) {
      case 0:
        bytes[at] = random(256);
        break;
      case 1:
        bytes[at] = bytes[at]! ^ (1 << random(8));
        break;
      case 2:
        bytes.writeUInt32LE(value, at);
        break;
      case 3:
        bytes.writeUInt32BE(value, at);
        break;
      default:
        bytes.fill(255 * random(2), at, at + 8);
    }
  }
  return before;
}

/** The other files, by whatever name; the last of them is the parent, if one is wanted. */
function around(format: string, files: readonly BytesStore[]): Neighbours {
  const others = files.slice(1);
  return {
    file: async () => others[0] ?? files[0]!,
    names: async () => ["parent.vmdk", "parent.vhd", "parent.vhdx", "parent.vdi"],
    image: async () => {
      if (others.length === 0) throw new StorageError("STORAGE_OPEN", "there is no parent");
      return await IMPORT_FORMATS.get(format)!(others.at(-1)!, around(format, others));
    },
  };
}

/** Opens and reads here and there; how far it came. */
async function use(format: string, files: Buffer[], random: (below: number) => number): Promise<string> {
  const stores = files.map((bytes) => new BytesStore(bytes)) as [BytesStore, ...BytesStore[]];
  const [first] = stores;
  await probeImport(first);
  let image: Awaited<ReturnType<NonNullable<ReturnType<typeof IMPORT_FORMATS.get>>>>;
  try {
    image = await IMPORT_FORMATS.get(format)!(first, around(format, stores));
  } catch (error) {
    if (!(error instanceof StorageError)) throw error;
    return "refused";
  }
  assert.ok(image.sizeBytes > 0 && image.sizeBytes <= 2 ** 46 && image.sizeBytes % 512 === 0);
  let outcome = "read";
  for (const at of [0, 3 << 20, 512 * random(image.sizeBytes / 512), image.sizeBytes - 512]) {
    if (at < 0 || at >= image.sizeBytes) continue;
    const length = Math.min(10_000, image.sizeBytes - at);
    try {
      const status = await image.status(at, length);
      assert.ok(status.length > 0 && status.length <= length);
      await image.read(at, [Buffer.alloc(length)]);
    } catch (error) {
      if (!(error instanceof StorageError)) throw error;
      assert.match(error.message, /damaged/);
      outcome = "damaged";
    }
  }
  return outcome;
}

for (const [format, options, killed] of [
  ["vmdk", "subformat=monolithicSparse"],
  ["vmdk", "subformat=streamOptimized"],
  ["vmdk", "subformat=twoGbMaxExtentSparse"],
  ["vmdk", "subformat=monolithicFlat"],
  ["vpc", "subformat=dynamic"],
  ["vpc", "subformat=fixed,force_size=on"],
  ["vhdx", "subformat=dynamic,block_size=1M"],
  ["vhdx", "subformat=dynamic,block_size=2M", "killed"],
  ["vdi", "static=off"],
  ["vmdk", "differencing"],
  ["vpc", "differencing"],
  ["vhdx", "differencing"],
  ["vdi", "differencing"],
] as const) {
  const rounds = roundsOf(format, options);
  test(`${rounds} damaged images: ${format} ${options} ${killed ?? ""}`, { skip }, async () => {
    const files = await make(format, options, killed !== undefined);
    const log = killed === undefined ? [] : logEntries(files[0]!);
    assert.equal(log.length > 0, killed !== undefined);
    const checked = [...(CHECKED.get(format) ?? []), ...log];
    const random = randomNumbers(files[0]!.length + options.length);
    assert.equal(await use(format, files, random), "read");
    const where = files.map(places);
    const victims = [...files.keys()].filter((file) => where[file]!.length > 0);
    const outcomes: Record<string, number> = { refused: 0, damaged: 0, read: 0 };
    let before = 0;
    for (let round = 0; round < rounds; round++) {
      const victim = victims[random(victims.length)]!;
      const bytes = files[victim]!;
      const was = damage(bytes, where[victim]!, random);
      if (random(2) === 0) was.push(...mend(format, bytes, checked));
      const cut = random(8) === 0 ? bytes.subarray(0, random(bytes.length)) : bytes;
      const outcome = await use(format, files.with(victim, cut), random).catch((error) => {
        throw new Error(`round ${round}`, { cause: error });
      });
      outcomes[outcome] = outcomes[outcome]! + 1;
      for (const [at, old] of was.reverse()) old.copy(bytes, at);
      if (round === Math.floor(rounds / 5)) before = process.memoryUsage().rss;
    }
    const grown = (process.memoryUsage().rss - before) / 2 ** 20;
    assert.ok(grown < 200, `${grown.toFixed(0)} MiB more than after a fifth of the rounds`);
    // All of it was exercised: what is refused, what is found when it is read, and what does no harm.
    assert.ok(outcomes.refused! > 0 && outcomes.read! > 0, JSON.stringify(outcomes));
  });
}
