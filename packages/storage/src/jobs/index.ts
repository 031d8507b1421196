/** Block jobs: work on a disk while a guest uses it. */

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
