/** What is done to a disk's images while the guest uses it: block jobs and external snapshots. */

import { access } from "node:fs/promises";
import { createImage, type Drive, type Image, openImage, removeMade } from "@lodge/storage";
import type {
  BackupOptions,
  BlockJob,
  CommitOptions,
  JobEvent,
  JobKind,
  JobState,
  MirrorOptions,
  StreamOptions,
} from "@lodge/storage/jobs";
import { VmmError } from "../errors.ts";
import { formatByName } from "./format.ts";

/** Where a mirror or a backup goes. */
export interface JobTarget {
  /** An image's file, a block device of the host, or an NBD address. */
  readonly target: string;
  /** Default: what the name ends with; of a file that is made, what the disk is. */
  readonly format?: string;
  /** It is there already, and of the disk's size. Default: false, the file is made, in place of one that may be there. */
  readonly existing?: boolean;
}

/** What becomes of a block job, as a machine tells it. */
export interface JobTold {
  readonly id: string;
  readonly kind: JobKind;
  readonly state: JobState;
  readonly doneBytes: number;
  readonly totalBytes: number;
  readonly speed: number;
  readonly happened: "state" | "error" | "ready" | "completed" | "cancelled" | "failed";
  readonly message?: string;
  /** Of an error: on which side, and what becomes of the job. */
  readonly operation?: "read" | "write";
  readonly action?: "report" | "stop";
}

export class DiskJobs implements AsyncDisposable {
  readonly #drive: Drive;
  readonly #tell: (told: JobTold) => void;
  #current: BlockJob | undefined;
  readonly #watched = {
    watcher: (job: BlockJob, event: JobEvent) => {
      this.#current = event.event === "concluded" ? undefined : job;
      this.#tell(told(job, event));
    },
  };

  constructor(drive: Drive, tell: (told: JobTold) => void) {
    this.#drive = drive;
    this.#tell = tell;
  }

  /** The job that works on the disk, if there is one. */
  get current(): BlockJob | undefined {
    return this.#current;
  }

  /** Another image becomes what the disk is; when the job is ready, `complete` has the disk go on there. */
  async mirror({ target, format, existing, ...options }: JobTarget & MirrorOptions): Promise<BlockJob> {
    const { startMirror } = await import("@lodge/storage/jobs");
    return this.#toTarget({ target, format, existing }, options.sync, (image, targetIsZero) =>
      startMirror(this.#drive, image, { ...options, ...this.#watched, targetIsZero }),
    );
  }

  /** A copy of what the disk is when this resolves. */
  async backup({ target, format, existing, ...options }: JobTarget & BackupOptions): Promise<BlockJob> {
    const { startBackup } = await import("@lodge/storage/jobs");
    return this.#toTarget({ target, format, existing }, options.sync, (image, targetIsZero) =>
      startBackup(this.#drive, image, { ...options, ...this.#watched, targetIsZero }),
    );
  }

  /** The disk's first image takes over what it has from those below. */
  async stream(options: StreamOptions = {}): Promise<BlockJob> {
    const { startStream } = await import("@lodge/storage/jobs");
    return startStream(this.#drive, { ...options, ...this.#watched });
  }

  /** What images of the disk hold goes down into one below. */
  async commit(options: CommitOptions = {}): Promise<BlockJob> {
    const { startCommit } = await import("@lodge/storage/jobs");
    return startCommit(this.#drive, { ...options, ...this.#watched });
  }

  /** The disk goes on in a new image, of qcow2, on the one it has. Returns what takes it back while the disk is held. */
  async snapshot(file: string, options: { existing?: boolean } = {}): Promise<() => Promise<void>> {
    const { takeSnapshot } = await import("@lodge/storage/jobs");
    return takeSnapshot(this.#drive, file, options);
  }

  /** The files of the disk's images, from the one that is written down. */
  async chain(): Promise<string[]> {
    const { chainOf } = await import("@lodge/storage/jobs");
    return chainOf(this.#drive.image).map(({ name }) => name);
  }

  async #toTarget(
    { target, format, existing = false }: { target: string; format: string | undefined; existing: boolean | undefined },
    sync: string | undefined,
    start: (image: Image, targetIsZero: boolean) => Promise<BlockJob>,
  ): Promise<BlockJob> {
    const { refuseOccupied } = await import("@lodge/storage/jobs");
    // Before a file is made.
    refuseOccupied(this.#drive, "block job");
    const { image, opening } = this.#drive;
    if (existing && !target.includes("://")) {
      await access(target).catch((cause) => {
        throw new VmmError("VMM_CONFIG", `${target}: the target shall be there already: ${cause.message}`, { cause });
      });
    }
    const kind = format ?? (existing ? await formatByName(target) : image.format);
    const backing = sync === "top" ? await this.#below() : undefined;
    const made = { format: kind, sizeBytes: image.sizeBytes, ...(backing && { backing }) };
    const targetIsZero = existing ? false : await createImage(target, made);
    let opened: Image | undefined;
    try {
      opened = await openImage(target, { ...opening, format: kind });
      return await start(opened, targetIsZero);
    } catch (cause) {
      await opened?.close();
      if (!existing) await removeMade(target);
      throw cause;
    }
  }

  /** What the disk's first image stands on, for another that is to stand there too. */
  async #below(): Promise<{ name: string; format: string } | undefined> {
    const { chainOf } = await import("@lodge/storage/jobs");
    const [, below] = chainOf(this.#drive.image);
    return below && { name: below.name, format: below.format };
  }

  /** Ends what works, whose target is then of no use. */
  async [Symbol.asyncDispose](): Promise<void> {
    const job = this.#current;
    if (job === undefined) return;
    // One that is at its end comes to it.
    if (job.state !== "pending") job.cancel({ force: true });
    await job.ended;
  }
}

function told(job: BlockJob, event: JobEvent): JobTold {
  const { id, kind, state, speed, progress } = job;
  const common = { id, kind, state, speed, ...progress };
  switch (event.event) {
    case "error": {
      const { operation, action, error } = event;
      return { ...common, happened: "error", operation, action, message: error.message };
    }
    case "concluded":
      return { ...common, happened: event.outcome, ...(event.error && { message: event.error.message }) };
    default:
      return { ...common, happened: event.event };
  }
}
