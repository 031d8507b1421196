/**
 * What disks that fail do to their machine: with `error=stop` it pauses, and nothing is lost. When it was for want of space
 * on the host, the machine goes on by itself when there is some.
 */

import { statfs } from "node:fs/promises";
import { isNoSpace } from "@lodge/storage/terms";
import type { Life } from "../life.ts";
import type { AttachedDisk, DiskError } from "./attached-disk.ts";

/** Nobody tells when a file system has space again: it is looked at, ever more seldom when that was too early. */
const FIRST_LOOK_MS = 250;
const LONGEST_MS = 30_000;
/** What is worth going on with. */
const ENOUGH_BYTES = 1 << 20;

export class DiskTrouble implements Disposable {
  readonly #life: Life;
  readonly #watch: Disposable;
  #timer: NodeJS.Timeout | undefined;
  #waitMs = FIRST_LOOK_MS;
  #wentOnAtMs = Number.NEGATIVE_INFINITY;
  /** The user wants it paused: it is his to resume. */
  #usersPause = false;

  constructor(life: Life) {
    this.#life = life;
    this.#watch = life.watch(({ event }) => {
      if (event === "resumed" || event === "ended") this.#forget();
    });
  }

  follow(disk: AttachedDisk): void {
    disk.onError = (failure) => this.#failed(failure);
  }

  /** The machine is paused by its user now, whatever it was before. */
  leaveToUser(): void {
    this.#usersPause = true;
    this.#forget();
  }

  #failed(failure: DiskError): void {
    const { disk, error, operation, action } = failure;
    const noSpace = isNoSpace(error);
    this.#life.tell({ event: "disk-error", file: disk.file, message: error.message, operation, action, noSpace });
    if (action !== "stop") return;
    if (this.#life.state === "running") {
      this.#usersPause = false;
      void this.#life.pause();
    }
    if (!noSpace || this.#usersPause || this.#timer !== undefined) return;
    const tooEarly = performance.now() - this.#wentOnAtMs < 2 * this.#waitMs;
    this.#waitMs = tooEarly ? Math.min(2 * this.#waitMs, LONGEST_MS) : FIRST_LOOK_MS;
    this.#lookLater(disk.file);
  }

  #lookLater(file: string): void {
    this.#timer = setTimeout(async () => {
      const free = await freeBytes(file);
      // Resumed, ended or left to the user while it was looked at.
      if (this.#timer === undefined) return;
      if (free < ENOUGH_BYTES) return this.#lookLater(file);
      this.#wentOnAtMs = performance.now();
      this.#life.resume();
    }, this.#waitMs);
  }

  #forget(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  [Symbol.dispose](): void {
    this.#forget();
    this.#watch[Symbol.dispose]();
  }
}

/** What this user may still write where the file is; nothing where that cannot be told. */
async function freeBytes(file: string): Promise<number> {
  try {
    const { bavail, bsize } = await statfs(file);
    return bavail * bsize;
  } catch {
    // Not a file of this host: whoever sees to its space resumes the machine.
    return 0;
  }
}
