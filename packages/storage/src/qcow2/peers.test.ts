/** Images that QEMU made and writes, of every kind, which we read and write between. */

import assert from "node:assert/strict";
import { mkdtempDisposableSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { qemuCheck, qemuImg, qemuIo, qemuMissing } from "../../testing/qemu.ts";
import { Random, runSeed } from "../../testing/random.ts";
import { openImage } from "../open.ts";

const SEED = runSeed();
const skip = qemuMissing;
const ROUNDS = 3;
const folder = () => mkdtempDisposableSync(join(tmpdir(), "lodge-peers-"));

interface Shape {
  options: string;
  clusterSize: number;
  /** The format of the image that it stands on. */
  base?: string;
}

const SHAPES: Record<string, Shape> = {
  "64 KiB clusters": { options: "compat=1.1", clusterSize: 65536 },
  "version 2": { options: "compat=0.10,cluster_size=4k", clusterSize: 4096, base: "raw" },
  "512 B clusters": { options: "cluster_size=512,refcount_bits=64", clusterSize: 512, base: "qcow2" },
  "2 MiB clusters": { options: "cluster_size=2M,refcount_bits=32", clusterSize: 2 << 20, base: "raw" },
  "extended L2 entries": { options: "extended_l2=on,cluster_size=16k", clusterSize: 16384, base: "qcow2" },
  "zstd compression": { options: "compression_type=zstd,cluster_size=8k", clusterSize: 8192 },
  "lazy refcounts": { options: "lazy_refcounts=on,cluster_size=4k", clusterSize: 4096, base: "vmdk" },
  preallocated: { options: "preallocation=metadata,cluster_size=32k", clusterSize: 32768 },
};

for (const [name, shape] of Object.entries(SHAPES)) {
  test(`${name}${shape.base === undefined ? "" : ` above ${shape.base}`}`, { skip }, async () => {
    const random = new Random(SEED);
    try {
      await live(random, shape);
    } catch (cause) {
      throw new Error(`with SEED=${random.seed}: ${(cause as Error).message}`, { cause });
    }
  });
}

async function live(random: Random, { options, clusterSize, base }: Shape): Promise<void> {
  using dir = folder();
  const path = (name: string) => join(dir.path, name);
  const sizeBytes = 12 * clusterSize + 512 * (1 + random.below((clusterSize * 28) / 512));
  const image = path("image");
  if (base !== undefined) {
    const below = Buffer.alloc(8 * clusterSize + 65536 * (1 + random.below(8)));
    for (let at = 0; at < below.length; at += 512) below.fill(random.below(256), at, at + 512);
    writeFileSync(path("plain"), below);
    qemuImg("convert", "-f", "raw", "-O", base, path("plain"), path("base"));
  }
  const on = base === undefined ? [] : ["-b", path("base"), "-F", base];
  qemuImg("create", "-q", "-f", "qcow2", "-o", options, ...on, image, `${sizeBytes}`);
  const range = () => {
    const first = random.below(sizeBytes / 512);
    const most = Math.min(sizeBytes / 512 - first, Math.ceil((clusterSize * 3) / 512));
    return { offset: first * 512, length: 512 * (1 + random.below(most)) };
  };
  // QEMU compresses only into clusters that are not there yet.
  const compressed = [2, 3, 7, 11].map((at) => `write -c -P ${at} ${at * clusterSize} ${clusterSize}`);
  if (!options.includes("preallocation")) qemuIo(image, ...compressed);
  const theirs = () => {
    qemuImg("convert", "-f", "qcow2", "-O", "raw", image, path("read"));
    return readFileSync(path("read"));
  };
  for (let round = 0; round < ROUNDS; round++) {
    const commands = Array.from({ length: 12 }, () => {
      const { offset, length } = range();
      const what = random.pick([`write -P ${1 + random.below(255)}`, "write -z", "write -z -u", "discard"]);
      return `${what} ${offset} ${length}`;
    });
    qemuIo(image, ...commands);
    if (round === 1) qemuImg("snapshot", "-c", "kept", image);
    const model = theirs();
    const ours = await openImage(image, { format: "qcow2" });
    try {
      const read = Buffer.alloc(sizeBytes);
      await ours.read(0, [read]);
      expectSame(read, model, "read by us");
      for (let step = 0; step < 12; step++) {
        const { offset, length } = range();
        const value = random.below(3) === 0 ? 0 : 1 + random.below(255);
        if (value === 0) await ours.writeZeroes(offset, length, random.chance(0.5));
        else await ours.write(offset, [new Uint8Array(length).fill(value)]);
        model.fill(value, offset, offset + length);
      }
    } finally {
      await ours.close();
    }
    qemuCheck(image);
    expectSame(theirs(), model, "read by QEMU");
  }
}

function expectSame(now: Buffer, wanted: Buffer, what: string): void {
  assert.equal(now.length, wanted.length);
  if (now.equals(wanted)) return;
  const at = now.findIndex((byte, index) => byte !== wanted[index]);
  assert.fail(`${what}: byte ${at} is ${now[at]} instead of ${wanted[at]}`);
}

test("a backing file whose format is not recorded is refused, as a guest could forge it", { skip }, async () => {
  using dir = folder();
  const path = (name: string) => join(dir.path, name);
  qemuImg("create", "-q", "-f", "qcow2", path("base"), "1M");
  qemuImg("create", "-q", "-f", "qcow2", "-b", "base", "-F", "qcow2", path("top"));
  const bytes = readFileSync(path("top"));
  // "Backing file format name string", the first extension, becomes one that nobody knows.
  const at = bytes.readUInt32BE(100);
  assert.equal(bytes.readUInt32BE(at), 0xe2792aca);
  bytes.writeUInt32BE(0x12345678, at);
  writeFileSync(path("top"), bytes);
  const message = /top: its backing file's format is not recorded; name it: lodge image rebase -u -b base -F FORMAT /;
  await assert.rejects(openImage(path("top"), { format: "qcow2" }), { code: "STORAGE_OPEN", message });
  const alone = await openImage(path("top"), { format: "qcow2", backing: false });
  await alone.close();
});
