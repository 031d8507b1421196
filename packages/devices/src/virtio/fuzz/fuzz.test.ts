/**
 * Every device against a hostile driver: no exception, no byte outside guest memory, no growth of ours. What fails is had
 * again with the seed that is printed: LODGE_SEED.
 */

import assert from "node:assert/strict";
import { mkdirSync, mkdtempDisposableSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { duplexPair } from "node:stream";
import { test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { GuestSide } from "@lodge/network";
import { type Disk, openImage } from "@lodge/storage";
import { BalloonDevice } from "../balloon/balloon.ts";
import { BlkDevice } from "../blk/blk.ts";
import { ConsoleDevice } from "../console/console.ts";
import type { VirtioDevice } from "../device.ts";
import { FsDevice } from "../fs/fs.ts";
import { NetDevice } from "../net/net.ts";
import { P9Device } from "../p9/p9.ts";
import { PmemDevice } from "../pmem/pmem.ts";
import { RngDevice } from "../rng/rng.ts";
import { Random } from "../testing/random.ts";
import { VsockDevice } from "../vsock/vsock.ts";
import { HostileDriver, type Request } from "./hostile-driver.ts";
import {
  balloonRequest,
  blkRequest,
  consoleRequest,
  fsRequest,
  netRequest,
  p9Request,
  pmemRequest,
  rngRequest,
  vsockRequest,
} from "./requests.ts";

const CASES = process.env.LODGE_LONG ? 200_000 : 16_000;
/** Cases between two starts of a device. */
const SESSION = 64;
/** What caches, compiled code and pools may take until they have their size. */
const MOST_GROWTH = 24 << 20;

interface Subject {
  device: VirtioDevice;
  request: (random: Random) => Request;
  /** Something happens on the host's side. */
  stimulate?: (random: Random) => void;
}

setFlagsFromString("--expose-gc");
const collect: () => void = runInNewContext("gc");

function hostBytes(): number {
  collect();
  const { heapUsed, external, arrayBuffers } = process.memoryUsage();
  return heapUsed + external + arrayBuffers;
}

async function fuzz({ device, request, stimulate }: Subject): Promise<void> {
  const random = new Random();
  const say = (index: number) => `LODGE_SEED=${random.seed}, case ${index}`;
  console.log(`# ${device.constructor.name}: ${CASES} cases, LODGE_SEED=${random.seed}`);
  const driver = new HostileDriver(device, random);
  let before = 0;
  for (let index = 0; index < CASES; index++) {
    if (index === CASES / 4) before = hostBytes();
    try {
      if (index % SESSION === 0 || (driver.needsReset && random.chance(0.3))) await driver.start();
      const kind = random.below(20);
      if (kind < 14) driver.request(request(random));
      else if (kind < 15) driver.scribble();
      else if (kind < 17) driver.pokeRegisters();
      else if (kind < 19) driver.ringAnything();
      else stimulate?.(random);
      // What goes on in the background does so between some of the cases.
      if (random.chance(0.3)) await new Promise((resolve) => setImmediate(resolve));
    } catch (cause) {
      throw new Error(say(index), { cause });
    }
    if (index % 4096 === 0) assert.ok(HostileDriver.guardsAreIntact(), say(index));
  }
  assert.ok(HostileDriver.guardsAreIntact(), say(CASES));
  await driver.transport.close();
  const grown = hostBytes() - before;
  assert.ok(grown < MOST_GROWTH, `${say(CASES)}: ${grown} bytes more than before`);
  const { requests, failures, interrupts } = driver;
  console.log(`# ${requests} requests, ${interrupts} interrupts, ${failures} broken`);
  // A driver that breaks everything at once would test nothing.
  assert.ok(driver.failures < driver.requests / 4, `${say(CASES)}: ${driver.failures} of ${driver.requests} broke it`);
}

test("blk", async () => {
  using dir = mkdtempDisposableSync(join(tmpdir(), "lodge-fuzz-"));
  const path = join(dir.path, "disk");
  writeFileSync(path, new Uint8Array(256 * 512));
  const disk = await openImage(path);
  await fuzz({ device: new BlkDevice({ disk, queues: 2 }), request: blkRequest });
  await disk.close();
});

test("blk, whose host fails and holds requests", async () => {
  const host = { full: false };
  const disk: Disk = {
    sizeBytes: 256 * 512,
    readOnly: false,
    read: async (_, pieces) => pieces.forEach((piece) => void piece.fill(1)),
    write: () => (host.full ? Promise.reject(new Error("the host is full")) : Promise.resolve()),
    flush: () => (host.full ? Promise.reject(new Error("the host is full")) : Promise.resolve()),
    discard: async () => {},
    writeZeroes: async () => {},
    close: async () => {},
  };
  const device = new BlkDevice({ disk, queues: 2, cache: false, errors: "stop" });
  await fuzz({
    device,
    request: blkRequest,
    stimulate: (random) => {
      host.full = random.chance(0.5);
      if (random.chance(0.5)) device.resume();
      if (random.chance(0.1)) device.resized();
    },
  });
});

test("console", async () => {
  let full = false;
  const device = new ConsoleDevice({
    ports: [
      { console: true, onData: () => true },
      { name: "agent", onData: () => !full },
    ],
  });
  await fuzz({
    device,
    request: consoleRequest,
    stimulate: (random) => {
      full = random.chance(0.5);
      const port = random.pick(device.ports);
      if (!full) device.ports[1]!.resume();
      port.send(new Uint8Array(random.below(3000)));
      port.connect(random.chance(0.5));
      device.resize(random.below(200), random.below(200));
    },
  });
});

test("pmem", async () => {
  const memory = { name: "pmem.img", fd: -1, sizeBytes: 2 << 20, shared: true };
  const host = { full: false };
  const flush = async () => {
    await new Promise((resolve) => setImmediate(resolve));
    if (host.full) throw new Error("the host is full");
  };
  const stimulate = (random: Random) => {
    host.full = random.chance(0.5);
  };
  await fuzz({ device: new PmemDevice({ memory, flush }), request: pmemRequest, stimulate });
});

test("rng", () => fuzz({ device: new RngDevice(), request: rngRequest }));

test("net", async () => {
  let guest: GuestSide | undefined;
  const port = {
    takesOffloads: true,
    givesOffloads: true,
    transmit: () => {},
    connect: (side: GuestSide) => {
      guest = side;
    },
  };
  const device = new NetDevice({ port, mac: "52:54:00:12:34:56", mtu: 1500, pairs: 2 });
  await fuzz({
    device,
    request: netRequest,
    stimulate: (random) => {
      const frame = Uint8Array.from({ length: 14 + random.below(1500) }, () => random.u32());
      guest?.receive(frame, random.chance(0.5) ? { checksum: { start: 0, offset: 2 } } : undefined);
      if (random.chance(0.1)) device.setLink(random.chance(0.7));
      if (random.chance(0.1)) device.announce();
    },
  });
});

test("balloon", async () => {
  const device = new BalloonDevice({ release: (pages) => void pages.fill(0) });
  await fuzz({
    device,
    request: balloonRequest,
    stimulate: (random) => {
      device.setTarget(random.u32());
      device.statistics().catch(() => {});
    },
  });
});

test("vsock", async () => {
  let theirs: ReturnType<typeof duplexPair>[1] | undefined;
  const connect = (port: number) => {
    if (port > 2) return undefined;
    const [ours, other] = duplexPair();
    other.on("error", () => {});
    if (port === 1) other.resume();
    theirs = other;
    return ours;
  };
  const device = new VsockDevice({ cid: 7, connect });
  await fuzz({
    device,
    request: vsockRequest,
    stimulate: (random) => {
      if (random.chance(0.3)) device.dial(random.below(10), connect(random.below(3))!);
      if (random.chance(0.5)) theirs?.write(new Uint8Array(random.below(5000)));
      else if (random.chance(0.3)) theirs?.end();
      else if (random.chance(0.1)) theirs?.destroy();
    },
  });
});

/** `share/`, with a link that leads out of it, to a file beside it. */
function shareOf(folder: string): string {
  const share = join(folder, "share");
  mkdirSync(join(share, "folder"), { recursive: true });
  writeFileSync(join(share, "a"), "content");
  writeFileSync(join(folder, "a"), "outside");
  symlinkSync("../a", join(share, "link"));
  return share;
}

test("9p", async () => {
  using dir = mkdtempDisposableSync(join(tmpdir(), "lodge-fuzz-"));
  const device = new P9Device({ folder: shareOf(dir.path), tag: "fuzz" });
  await fuzz({ device, request: p9Request });
  device.close();
  assert.equal(readFileSync(join(dir.path, "a"), "utf8"), "outside");
});

test("fs", async () => {
  using dir = mkdtempDisposableSync(join(tmpdir(), "lodge-fuzz-"));
  const device = new FsDevice({ folder: shareOf(dir.path), tag: "fuzz" });
  await fuzz({ device, request: fsRequest });
  device.close();
  assert.equal(readFileSync(join(dir.path, "a"), "utf8"), "outside");
  assert.deepEqual(readdirSync(dir.path).toSorted(), ["a", "share"]);
});
