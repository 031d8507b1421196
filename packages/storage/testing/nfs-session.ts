/** A pool in a server's folder, for a host whose kernel has NFS (lab/nfs.test.ts). Prints what it saw as JSON. */

import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { Drive, openImage, StorageError } from "../src/index.ts";
import { NetworkFolderPool } from "../src/pools/index.ts";

const MIB = 1 << 20;
const seen: Record<string, unknown> = {};
const [source = "", folder = "", exported = ""] = process.argv.slice(2);

async function refused(attempt: Promise<unknown>): Promise<string> {
  return await attempt.then(
    () => "not refused",
    (error: unknown) => (error instanceof StorageError ? `${error.code}: ${error.message}` : String(error)),
  );
}

/** QEMU's tool in another process: its status. */
function qemuImg(...args: string[]): number {
  try {
    execFileSync("qemu-img", args, { stdio: "ignore" });
    return 0;
  } catch (error) {
    return (error as { status: number }).status;
  }
}

const pool = new NetworkFolderPool({ source, type: "nfs4", folder, options: "vers=4.2" });
seen.unknown = await refused(new NetworkFolderPool({ source: `${source}none`, type: "nfs4", folder }).start());
seen.before = await refused(pool.create("early", { sizeBytes: MIB }));
await pool.start();
seen.again = await refused(new NetworkFolderPool({ source, type: "nfs4", folder }).start());
const { path } = await pool.create("web.qcow2", { sizeBytes: 64 * MIB, format: "qcow2" });
const model = Buffer.alloc(2 * MIB);
for (const cache of ["writeback", "none"] as const) {
  const drive = await Drive.open(path, { format: "qcow2", cache });
  model.fill(cache.length, cache === "none" ? MIB : 0, cache === "none" ? 2 * MIB : MIB);
  await drive.write(0, [model.subarray(0, MIB)]);
  await drive.write(MIB, [model.subarray(MIB)]);
  await drive.writeZeroes(MIB / 2, 65536, true);
  model.fill(0, MIB / 2, MIB / 2 + 65536);
  await drive.discard(8 * MIB, MIB);
  await drive.flush();
  // Nobody else writes it meanwhile, here or in another process.
  seen[`locked ${cache}`] = [await refused(openImage(path, { format: "qcow2" })), qemuImg("resize", path, "+1M")];
  await drive.close();
}
const clone = await pool.clone("web.qcow2", "copy.qcow2");
const top = await openImage(clone.path, { format: "qcow2" });
await top.write(MIB, [model.subarray(0, 4096)]);
model.copy(model, MIB, 0, 4096);
const read = Buffer.alloc(2 * MIB);
await top.read(0, [read]);
seen.same = read.equals(model);
await top.close();
seen.checks = [path, clone.path].map((image) => qemuImg("check", image));
seen.grown = (await pool.resize("copy.qcow2", 128 * MIB)).sizeBytes;
seen.volumes = (await pool.volumes()).map(({ name, format, sizeBytes }) => [name, format, sizeBytes]);
const { totalBytes, freeBytes } = await pool.capacity();
seen.capacity = totalBytes >= freeBytes && freeBytes > 0;
// What the server has is what we have.
seen.server = readdirSync(exported).sort();
await pool.remove("copy.qcow2");
await pool.stop();
seen.left = readdirSync(folder);
seen.after = await refused(pool.volumes());
seen.kept = readdirSync(exported).sort();
console.log(JSON.stringify(seen));
