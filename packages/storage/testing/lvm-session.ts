/** A volume group's life, for a host whose kernel has the device mapper (lab/lvm.test.ts). Prints what it saw as JSON. */

import { execFileSync } from "node:child_process";
import { closeSync, openSync, readSync, writeSync } from "node:fs";
import { StorageError } from "../src/index.ts";
import { LvmPool } from "../src/pools/index.ts";

const MIB = 1 << 20;
const seen: Record<string, unknown> = {};
const [device = ""] = process.argv.slice(2);

async function refused(attempt: Promise<unknown>): Promise<string> {
  return await attempt.then(
    () => "not refused",
    (error: unknown) => (error instanceof StorageError ? `${error.code}: ${error.message}` : String(error)),
  );
}

function write(path: string, value: number): void {
  const file = openSync(path, "r+");
  writeSync(file, Buffer.alloc(MIB, value), 0, MIB, MIB);
  closeSync(file);
}

function read(path: string): number {
  const file = openSync(path, "r");
  const bytes = Buffer.alloc(MIB);
  readSync(file, bytes, 0, MIB, MIB);
  closeSync(file);
  return bytes.every((byte) => byte === bytes[0]) ? bytes[0]! : -1;
}

execFileSync("vgcreate", ["pool", device], { stdio: "ignore" });
const plain = new LvmPool({ group: "pool" });
await plain.start();
seen.empty = await plain.volumes();
const one = await plain.create("one", { sizeBytes: 20 * MIB });
seen.one = one;
write(one.path, 1);
seen.grown = (await plain.resize("one", 40 * MIB)).sizeBytes;
seen.content = read(one.path);
seen.capacity = await plain.capacity();
seen.shrink = await refused(plain.resize("one", 8 * MIB));
seen.again = await refused(plain.create("one", { sizeBytes: 20 * MIB }));
seen.tooLarge = await refused(plain.create("large", { sizeBytes: 4096 * MIB }));
seen.cloned = await refused(plain.clone("one", "two"));
seen.noThinPool = await refused(new LvmPool({ group: "pool", thinPool: "thin" }).start());

execFileSync("lvcreate", ["-y", "-L", "100M", "-T", "pool/thin"], { stdio: "ignore" });
const thin = new LvmPool({ group: "pool", thinPool: "thin" });
await thin.start();
const big = await thin.create("big", { sizeBytes: 1024 * MIB });
seen.big = big;
write(big.path, 2);
const clone = await thin.clone("big", "clone");
write(clone.path, 3);
seen.apart = [read(big.path), read(clone.path)];
seen.thin = (await thin.volumes()).map(({ name, sizeBytes, allocatedBytes }) => [name, sizeBytes, allocatedBytes > 0]);
seen.thinCapacity = await thin.capacity();
// The plain pool does not show what is thin, nor the pool's own parts.
seen.plain = (await plain.volumes()).map(({ name }) => name);
await thin.remove("clone");
await plain.remove("one");
seen.left = [(await plain.volumes()).length, (await thin.volumes()).length];
await plain.stop();
process.stdout.write(JSON.stringify(seen));
