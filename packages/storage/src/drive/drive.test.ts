/** Cache modes as the host's kernel sees them, limits, and disks that are devices of the host. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  constants,
  existsSync,
  mkdtempDisposableSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { MemoryStore } from "../../testing/memory-store.ts";
import { Random, runSeed } from "../../testing/random.ts";
import { StorageError } from "../errors.ts";
import { openImage } from "../open.ts";
import { RawImage } from "../raw/raw-image.ts";
import { CACHE_MODES, type CacheMode, fileCaching } from "./cache-mode.ts";
import { Drive } from "./drive.ts";

const MIB = 1 << 20;
const folder = () => mkdtempDisposableSync(join(tmpdir(), "lodge-drive-"));

/** Why this folder's file system has no cache=none, or false. */
async function noDirect(): Promise<string | false> {
  using dir = folder();
  const path = join(dir.path, "disk");
  writeFileSync(path, Buffer.alloc(4096));
  try {
    await (await Drive.open(path, { cache: "none", format: "raw" })).close();
    return false;
  } catch (error) {
    assert.ok(error instanceof StorageError);
    return error.message;
  }
}
const skipDirect = await noDirect();
const noFincore = spawnSync("fincore", ["--version"]).error === undefined ? false : "fincore is not installed";
const loop = spawnSync("losetup", ["--find"], { encoding: "utf8" });
const noLoop = loop.status === 0 ? false : `no loop device: ${loop.error?.message ?? loop.stderr.trim()}`;

function run(program: string, ...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(program, args, { encoding: "utf8" });
  assert.equal(status, 0, `${program} ${args.join(" ")}: ${stderr}`);
  return stdout.trim();
}

/** How many of a file's pages are in the page cache. */
const cachedPages = (path: string) => Number(run("fincore", "--noheadings", "--output", "PAGES", path));

test("cache=none goes past the page cache, the others through it", { skip: skipDirect || noFincore }, async () => {
  using dir = folder();
  const path = join(dir.path, "disk");
  const memory = new WebAssembly.Memory({ initial: 32, maximum: 32, shared: true });
  for (const [cache, cached] of [["none", false] as const, ["writeback", true] as const]) {
    writeFileSync(path, Buffer.alloc(MIB, 0x5a));
    run("dd", `of=${path}`, "oflag=nocache", "conv=notrunc,fdatasync", "count=0", "status=none");
    assert.equal(cachedPages(path), 0);
    const drive = await Drive.open(path, { cache, format: "raw" });
    const piece = new Uint8Array(memory.buffer, 4096, MIB);
    await drive.read(0, [piece]);
    assert.equal(piece[MIB - 1], 0x5a);
    await drive.write(0, [piece.fill(0xa5).subarray(0, 4096), piece.subarray(8192, 8192 + 512)]);
    assert.equal(cachedPages(path) > 0, cached, cache);
    await drive.close();
    assert.ok(
      readFileSync(path)
        .subarray(0, 4608)
        .every((byte) => byte === 0xa5),
    );
  }
});

test("cache=none with transfers of any place and length is the same file", { skip: skipDirect }, async () => {
  using dir = folder();
  const seed = runSeed();
  const random = new Random(seed);
  const path = join(dir.path, "disk");
  const model = Buffer.alloc(256 << 10);
  writeFileSync(path, model);
  const drive = await Drive.open(path, { cache: "none", format: "raw" });
  const memory = new Uint8Array(new SharedArrayBuffer(MIB));
  for (let step = 0; step < 400; step++) {
    // Whole blocks, and what is none, in memory of either kind.
    const unit = random.pick([1, 512, 4096]);
    const offset = random.below(model.length / unit) * unit;
    const length = Math.min(model.length - offset, unit * (1 + random.below(16)));
    const start = random.below(MIB / 2 / unit) * unit;
    const cut = random.below(length / unit) * unit;
    const pieces = [memory.subarray(start, start + cut), memory.subarray(start + cut, start + length)];
    if (random.chance(0.5)) {
      memory.fill(random.below(256), start, start + length);
      await drive.write(offset, pieces);
      model.set(memory.subarray(start, start + length), offset);
    } else {
      await drive.read(offset, pieces);
      const read = Buffer.from(memory.slice(start, start + length));
      assert.ok(read.equals(model.subarray(offset, offset + length)), `step ${step} of seed ${seed}`);
    }
  }
  await drive.close();
  assert.ok(readFileSync(path).equals(model), `seed ${seed}`);
});

test("what is lasting when, by cache mode", async () => {
  class Noting extends RawImage {
    readonly calls: string[] = [];
    override async write(): Promise<void> {
      this.calls.push("write");
    }
    override async flush(): Promise<void> {
      this.calls.push("flush");
    }
  }
  const calls = async (cache: CacheMode) => {
    const image = new Noting(new MemoryStore(4096));
    const drive = new Drive(image, { cache });
    await drive.write(0, [new Uint8Array(512)]);
    await drive.flush();
    return image.calls;
  };
  const through = ["write", "flush", "flush"];
  const expected = {
    ...{ writeback: ["write", "flush"], none: ["write", "flush"], unsafe: ["write"] },
    ...{ writethrough: through, directsync: through },
  };
  for (const cache of CACHE_MODES) assert.deepEqual(await calls(cache), expected[cache], cache);
});

test("how files are opened, by cache mode", { skip: await noDirect() }, async () => {
  using dir = folder();
  const path = join(dir.path, "disk");
  writeFileSync(path, Buffer.alloc(4096));
  /** What the descriptors have that this process holds of it. */
  const flags = () =>
    readdirSync("/proc/self/fd")
      .filter((fd) => existsSync(`/proc/self/fd/${fd}`) && readlinkSync(`/proc/self/fd/${fd}`) === path)
      .map((fd) => Number.parseInt(/flags:\s*(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "latin1"))![1]!, 8));
  const { O_DIRECT, O_DSYNC } = constants;
  for (const cache of CACHE_MODES) {
    const image = await openImage(path, { format: "raw", ...fileCaching(cache) });
    const held = flags();
    assert.equal(
      held.some((flag) => (flag & O_DIRECT) !== 0),
      cache === "none" || cache === "directsync",
      cache,
    );
    assert.equal(
      held.every((flag) => (flag & O_DSYNC) !== 0),
      cache === "writethrough" || cache === "directsync",
      cache,
    );
    await image.write(0, [Buffer.alloc(512, 7)]);
    await image.flush();
    await image.close();
    assert.equal(readFileSync(path)[511], 7);
  }
});

test("transfers wait for their limits, and go on when these are lifted", async () => {
  const drive = new Drive(new RawImage(new MemoryStore(4096)), {
    limits: { iops: 1e-3, iopsBurst: 1 },
  });
  await drive.read(0, [new Uint8Array(512)]);
  const waiting = [drive.write(0, [new Uint8Array(512).fill(1)]), drive.discard(512, 512), drive.read(0, [])];
  const first = await Promise.race([...waiting, new Promise((done) => setImmediate(() => done("nobody")))]);
  assert.equal(first, "nobody");
  drive.limits = {};
  await Promise.all(waiting);
  await drive.close();
});

test("a block device is a raw disk, and grows as the host makes it", { skip: noLoop }, async () => {
  using dir = folder();
  const path = join(dir.path, "backing");
  writeFileSync(path, Buffer.alloc(4 * MIB));
  const device = run("losetup", "--find", "--show", path);
  try {
    for (const cache of ["writeback", "none"] as const) {
      const drive = await Drive.open(device, { cache, format: "raw" });
      assert.equal(drive.sizeBytes, 4 * MIB);
      await drive.write(MIB, [new Uint8Array(8192).fill(cache.length)]);
      await drive.flush();
      const back = new Uint8Array(8192);
      await drive.read(MIB, [back]);
      assert.ok(back.every((byte) => byte === cache.length));
      assert.equal(readFileSync(path)[MIB + 8191], cache.length);
      await drive.writeZeroes(MIB, 4096, true);
      await drive.read(MIB, [back]);
      assert.deepEqual([back[4095], back[4096]], [0, cache.length]);
      await drive.close();
    }
    const drive = await Drive.open(device, { format: "raw" });
    await assert.rejects(drive.resize(8 * MIB), { code: "STORAGE_IO", message: /the device has 4194304 bytes/ });
    truncateSync(path, 8 * MIB);
    run("losetup", "--set-capacity", device);
    await drive.resize(8 * MIB);
    assert.equal(drive.sizeBytes, 8 * MIB);
    await drive.write(8 * MIB - 512, [new Uint8Array(512).fill(1)]);
    await drive.close();
  } finally {
    run("losetup", "--detach", device);
  }
});

test("what is neither file nor block device is refused", async () => {
  await assert.rejects(Drive.open("/dev/null", { format: "raw" }), {
    code: "STORAGE_OPEN",
    message: /neither a regular file nor a block device/,
  });
});

test("one moment of two drives: their requests wait, what is done for it does not, what it began does", async () => {
  const drives = [1, 2].map(() => new Drive(new RawImage(new MemoryStore(MIB))));
  const order: string[] = [];
  const write = (index: number, value: number) =>
    drives[index]!.write(0, [new Uint8Array(512).fill(value)]).then(() => order.push(`write ${index}`));
  await Promise.all(drives.map((_, index) => write(index, 1)));
  let later = Promise.resolve();
  const { promise: over, resolve } = Promise.withResolvers<void>();
  await Drive.held(drives, async () => {
    const writes = drives.map((_, index) => write(index, 2));
    await drives[1]!.drained(async () => void order.push("inside"));
    const begin = new Uint8Array(512);
    for (const drive of drives) await drive.image.read(0, [begin]);
    assert.equal(begin[0], 1);
    // Like a job, which goes on when the moment is over.
    later = over.then(() => drives[0]!.drained(async () => void order.push("drained")));
    void Promise.all(writes).then(() => resolve());
    order.push("end");
  });
  await later;
  assert.deepEqual(order, ["write 0", "write 1", "inside", "end", "write 1", "write 0", "drained"]);
  await Drive.held(drives, () => Promise.reject(new Error("no"))).catch(() => order.push("failed"));
  await write(0, 3);
  assert.deepEqual(order.slice(-2), ["failed", "write 0"]);
});
