/** A block job: work on a running disk that can be watched, paused, slowed, cancelled and, when it is ready, completed. */

import { Throttle } from "../drive/throttle.ts";
import { StorageError } from "../errors.ts";

/** As QEMU's `JobStatus` has them. */
export type JobState = "created" | "running" | "paused" | "ready" | "standby" | "pending" | "aborting" | "concluded";

/** Where a job may go from where it is. `standby` is a pause of a job that is ready; `pending`: its end, which nothing stops. */
const NEXT: Readonly<Record<JobState, readonly JobState[]>> = {
  created: ["running"],
  running: ["paused", "ready", "pending", "aborting"],
  paused: ["running", "aborting"],
  ready: ["standby", "pending", "aborting"],
  standby: ["ready", "aborting"],
  pending: ["aborting", "concluded"],
  aborting: ["concluded"],
  concluded: [],
};

export type JobKind = "mirror" | "backup" | "stream" | "commit";
export type JobOutcome = "completed" | "cancelled" | "failed";

/** What becomes of a job when a transfer fails: it ends, or waits until it is resumed and tries again. */
export type JobErrorPolicy = "report" | "stop";

export type JobEvent =
  | { readonly event: "state"; readonly state: JobState }
  | {
      readonly event: "error";
      readonly error: Error;
      readonly operation: "read" | "write";
      readonly action: JobErrorPolicy;
    }
  | { readonly event: "ready" }
  | { readonly event: "concluded"; readonly outcome: JobOutcome; readonly error?: Error };

export interface JobOptions {
  /** What it is called; default: what the disk is. */
  readonly id?: string;
  /** Bytes a second; 0, the default, for as many as go. */
  readonly speed?: number;
  readonly onError?: JobErrorPolicy;
  /** Told of everything from its making on; {@link BlockJob.watch} of what is still to come. */
  readonly watcher?: (job: BlockJob, event: JobEvent) => void;
}

/** What a job's work has of its job. */
export interface JobSteps {
  /** Waits for its turn to move so many bytes; rejects when the job is cancelled. */
  turn(bytes: number): Promise<void>;
  /** A transfer failed: rejects, or resolves when it is to be tried again. */
  failed(error: Error, operation: "read" | "write"): Promise<void>;
  /** There is so much more to do. */
  expect(bytes: number): void;
  /** So much is done. */
  did(bytes: number): void;
  /** Source and target are alike, and stay so until somebody asks for the end. */
  ready(): void;
  /** What was asked of a job that is ready: `leave` is the end without its changing over. */
  readonly asked: "complete" | "leave" | undefined;
  /** Who is called when something is asked, or the job is cancelled. */
  onAsked(callback: () => void): void;
  /** From here on nothing stops it. Waits while the job is paused; rejects when it is cancelled. */
  finishing(): Promise<void>;
}

/** What it is cancelled with, inside. */
class Cancelled extends Error {}

export class BlockJob {
  readonly id: string;
  readonly kind: JobKind;
  readonly onError: JobErrorPolicy;
  /** Resolves when it is over and has let go of everything. */
  readonly ended: Promise<JobOutcome>;
  readonly #throttle: Throttle;
  readonly #listeners = new Set<(event: JobEvent) => void>();
  #state: JobState = "created";
  #speed: number;
  #doneBytes = 0;
  #totalBytes = 0;
  #asked: JobSteps["asked"];
  #cancelled = false;
  /** The last transfer that failed. */
  #error: Error | undefined;
  #onAsked = () => {};
  /** Who waits for the job to go on. */
  #wakes: (() => void)[] = [];

  /** Begins in the next turn of the event loop's microtasks, when its maker has it. */
  constructor(
    kind: JobKind,
    id: string,
    { speed = 0, onError = "report", watcher }: JobOptions,
    run: (steps: JobSteps) => Promise<void>,
  ) {
    this.kind = kind;
    this.id = id;
    this.onError = onError;
    this.#speed = checkSpeed(speed);
    this.#throttle = new Throttle(limitsOf(speed));
    if (watcher !== undefined) this.watch((event) => watcher(this, event));
    this.ended = Promise.resolve().then(() => this.#live(run));
  }

  get state(): JobState {
    return this.#state;
  }

  /** What is done, of what there is to do as far as is known; both may grow. */
  get progress(): { doneBytes: number; totalBytes: number } {
    return { doneBytes: this.#doneBytes, totalBytes: this.#totalBytes };
  }

  /** Why it stands, or has failed. */
  get error(): Error | undefined {
    return this.#error;
  }

  get speed(): number {
    return this.#speed;
  }

  /** Holds at once, for transfers that wait, too. */
  set speed(speed: number) {
    this.#speed = checkSpeed(speed);
    if (!this.#cancelled) this.#throttle.limits = limitsOf(speed);
  }

  watch(listener: (event: JobEvent) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  /** Begins no transfer until it is resumed; what it does for the guest's writes it goes on doing. */
  pause(): void {
    if (this.#state === "paused" || this.#state === "standby") return;
    this.#go(this.#state === "ready" ? "standby" : "paused", "paused");
  }

  resume(): void {
    if (this.#state === "running" || this.#state === "ready") return;
    this.#error = undefined;
    this.#go(this.#state === "standby" ? "ready" : "running", "resumed");
    this.#wake();
  }

  /**
   * Ends it. One that is ready ends with a target that is what the disk is now, and counts as completed, unless `force`
   * is set; of what another leaves its kind says something.
   */
  cancel({ force = false } = {}): void {
    if (this.#cancelled || this.#state === "aborting" || this.#state === "concluded") return;
    if (this.#state === "pending") throw this.#refused("cancelled");
    if (!force && (this.#state === "ready" || this.#state === "standby")) {
      if (this.#state === "standby") this.resume();
      this.#asked ??= "leave";
    } else {
      this.#cancelled = true;
      this.#throttle.limits = {};
    }
    this.#onAsked();
    this.#wake();
  }

  /** Changes over to what a job that is ready has made. */
  complete(): void {
    if (this.#state !== "ready" || this.#asked !== undefined) throw this.#refused("completed");
    this.#asked = "complete";
    this.#onAsked();
  }

  #refused(what: string): StorageError {
    return new StorageError("STORAGE_OPEN", `the block job ${this.id} cannot be ${what}: it is ${this.#state}`);
  }

  #go(state: JobState, what?: string): void {
    if (!NEXT[this.#state].includes(state)) throw this.#refused(what ?? state);
    this.#state = state;
    this.#tell({ event: "state", state });
  }

  #tell(event: JobEvent): void {
    for (const listener of this.#listeners) listener(event);
  }

  #wake(): void {
    for (const wake of this.#wakes.splice(0)) wake();
  }

  async #live(run: (steps: JobSteps) => Promise<void>): Promise<JobOutcome> {
    let outcome: JobOutcome = "completed";
    this.#tell({ event: "state", state: "created" });
    try {
      this.#go("running");
      await run(this.#steps());
    } catch (cause) {
      outcome = cause instanceof Cancelled ? "cancelled" : "failed";
      this.#error = outcome === "failed" ? (cause as Error) : undefined;
      if (this.#state !== "aborting") this.#go("aborting");
    }
    if (this.#state === "running" || this.#state === "ready") this.#go("pending");
    this.#go("concluded");
    this.#tell({ event: "concluded", outcome, ...(this.#error !== undefined && { error: this.#error }) });
    return outcome;
  }

  #steps(): JobSteps {
    const job = this;
    return {
      async turn(bytes) {
        await job.#going();
        await job.#throttle.take(bytes);
        await job.#going();
      },
      async failed(error, operation) {
        job.#throwIfCancelled();
        const action = job.onError;
        job.#tell({ event: "error", error, operation, action });
        if (action === "report") throw error;
        // Others may have stopped it already.
        if (job.#state === "running" || job.#state === "ready") job.pause();
        job.#error = error;
        await job.#going();
      },
      expect(bytes) {
        job.#totalBytes += bytes;
      },
      did(bytes) {
        job.#doneBytes += bytes;
      },
      ready() {
        if (job.#state !== "running") return;
        job.#go("ready");
        job.#tell({ event: "ready" });
      },
      get asked() {
        return job.#asked;
      },
      onAsked(callback) {
        job.#onAsked = callback;
      },
      async finishing() {
        await job.#going();
        job.#go("pending");
      },
    };
  }

  /** Waits until it is not paused. */
  async #going(): Promise<void> {
    this.#throwIfCancelled();
    while (this.#state === "paused" || this.#state === "standby") {
      await new Promise<void>((resolve) => this.#wakes.push(resolve));
      this.#throwIfCancelled();
    }
  }

  #throwIfCancelled(): void {
    if (this.#cancelled) throw new Cancelled(`the block job ${this.id} was cancelled`);
  }
}

export function checkSpeed(speed: number): number {
  if (Number.isSafeInteger(speed) && speed >= 0) return speed;
  throw new StorageError("STORAGE_OPEN", `a speed of ${speed}: it is bytes a second, or 0 for no limit`);
}

function limitsOf(speed: number) {
  return speed === 0 ? {} : { bps: speed };
}
