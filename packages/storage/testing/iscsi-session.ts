/** The units of an iSCSI target, for a host whose kernel has an initiator (lab/iscsi.test.ts). Prints what it saw as JSON. */

import { readFileSync } from "node:fs";
import { openImage, StorageError } from "../src/index.ts";
import { IscsiPool } from "../src/pools/index.ts";

const MIB = 1 << 20;
const seen: Record<string, unknown> = {};
const [portal = "", target = "", backing = ""] = process.argv.slice(2);

async function refused(attempt: Promise<unknown>): Promise<string> {
  return await attempt.then(
    () => "not refused",
    (error: unknown) => (error instanceof StorageError ? `${error.code}: ${error.message}` : String(error)),
  );
}

const pool = new IscsiPool({ portal, target });
seen.none = await refused(new IscsiPool({ portal, target: `${target}-none` }).start());
await pool.start();
const volumes = await pool.volumes();
seen.volumes = volumes.map(({ name, format, sizeBytes }) => ({ name, format, sizeBytes }));
seen.capacity = await pool.capacity();

// A unit is a disk: what is written there is in the target's file.
const disk = await openImage(volumes[0]!.path, { format: "raw" });
seen.sizeBytes = disk.sizeBytes;
await disk.write(5 * MIB, [Buffer.alloc(MIB, 7)]);
await disk.writeZeroes(5 * MIB + 4096, 4096, true);
await disk.flush();
await disk.close();
const stored = readFileSync(backing);
seen.stored = [5 * MIB - 1, 5 * MIB, 5 * MIB + 4096, 5 * MIB + 8192].map((at) => stored[at]);

seen.create = await refused(pool.create());
// A session that was there stays when a second user of it goes.
const second = new IscsiPool({ portal, target });
await second.start();
await second.stop();
seen.shared = (await pool.volumes()).length;
await pool.stop();
seen.after = (await pool.volumes()).length;
console.log(JSON.stringify(seen));
