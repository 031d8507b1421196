/** Block jobs: work on a disk while a guest uses it. */

export { chainOf } from "../chain.ts";
export { type BackupOptions, startBackup } from "./backup.ts";
export { type CommitOptions, startCommit } from "./commit.ts";
export {
  BlockJob,
  type JobErrorPolicy,
  type JobEvent,
  type JobKind,
  type JobOptions,
  type JobOutcome,
  type JobState,
} from "./job.ts";
export { type MirrorOptions, startMirror } from "./mirror.ts";
export { refuseOccupied } from "./occupy.ts";
export { type ExternalSnapshotOptions, takeSnapshot } from "./snapshot.ts";
export { type StreamOptions, startStream } from "./stream.ts";
