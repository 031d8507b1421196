/** A process that runs a block job on a disk until it is killed: KIND DISK TARGET. It says so when the job has begun. */

import { Drive, openImage } from "../src/index.ts";
import { startBackup, startCommit, startMirror, startStream } from "../src/jobs/index.ts";

const [kind, disk, target] = process.argv.slice(2) as [string, string, string];
const drive = await Drive.open(disk, { format: "qcow2" });
const to = () => openImage(target, { format: "qcow2" });
const kinds: Record<string, () => ReturnType<typeof startStream>> = {
  mirror: async () => startMirror(drive, await to(), { mode: "write-blocking" }),
  backup: async () => startBackup(drive, await to()),
  stream: () => startStream(drive),
  commit: () => startCommit(drive),
  "commit-between": () => startCommit(drive, { top: disk.replace("top", "two") }),
};
const job = await kinds[kind]!();
job.watch(({ event }) => {
  if (event === "ready") job.complete();
});
process.stdout.write("begun\n");
await job.ended;
// Killed during what comes at a job's end, too; and if not, the disk is there all the same.
await drive.close();
