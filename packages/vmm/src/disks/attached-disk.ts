/** A disk of a machine, as it runs: an image behind a virtio block device. */

import { BlkDevice, type RequestFailure } from "@lodge/devices";
import { type CacheMode, type DiskBitmaps, Drive, type Limits } from "@lodge/storage";
import { VmmError } from "../errors.ts";
import { DiskJobs, type JobTold } from "./disk-jobs.ts";
import { formatByName } from "./format.ts";
import { checkLimits, type DiskOptions } from "./options.ts";

/** A request that the host's disk failed; with the action `stop` it is tried again when the machine goes on. */
export interface DiskError extends RequestFailure {
  readonly disk: AttachedDisk;
}

export class AttachedDisk implements AsyncDisposable {
  /** What it is called by the host: `disk0` and so on, or as its user named it. */
  readonly id: string;
  readonly serial: string | undefined;
  readonly device: BlkDevice;
  /** What is done to its images while the guest uses it. */
  readonly jobs: DiskJobs;
  readonly #drive: Drive;
  #failed: (failure: DiskError) => void = () => {};
  #jobTold: (told: JobTold) => void = () => {};

  private constructor(id: string, { serial, error }: DiskOptions, drive: Drive, queues: number) {
    this.id = id;
    this.serial = serial;
    this.#drive = drive;
    this.jobs = new DiskJobs(drive, (told) => this.#jobTold(told));
    this.device = new BlkDevice({
      disk: drive,
      queues,
      cache: !drive.writesThrough,
      ...(serial !== undefined && { serial }),
      ...(error !== undefined && { errors: error }),
      onError: (failure) => this.#failed({ disk: this, ...failure }),
    });
  }

  /** Opens what the options name; `queues` is how many vCPUs there are. */
  static async open(id: string, options: DiskOptions, queues: number): Promise<AttachedDisk> {
    const { file, readonly: readOnly = false, cache, limits } = options;
    const format = options.format ?? (await formatByName(file));
    const drive = await Drive.open(file, { format, readOnly, ...(cache && { cache }), ...(limits && { limits }) });
    return new AttachedDisk(id, options, drive, queues);
  }

  /** The image that it is in now: a block job may have it go on in another. */
  get file(): string {
    return this.#drive.image.name;
  }

  /** What follows its writes, for incremental backups. */
  get bitmaps(): DiskBitmaps {
    return this.#drive.bitmaps;
  }

  get format(): string {
    return this.#drive.image.format;
  }

  get cache(): CacheMode {
    return this.#drive.cache;
  }

  get readOnly(): boolean {
    return this.#drive.readOnly;
  }

  get sizeBytes(): number {
    return this.#drive.sizeBytes;
  }

  get limits(): Limits {
    return this.#drive.limits;
  }

  /** Holds at once, for requests that wait, too. */
  set limits(limits: Limits) {
    checkLimits(this.file, limits);
    this.#drive.limits = limits;
  }

  /** Makes it longer or shorter, and tells the guest. What is cut off is gone. A multiple of 512. */
  async resize(sizeBytes: number): Promise<void> {
    if (!Number.isSafeInteger(sizeBytes) || sizeBytes <= 0 || sizeBytes % 512 !== 0) {
      throw new VmmError("VMM_CONFIG", `disk ${this.file}: ${sizeBytes} bytes: a disk has a multiple of 512`);
    }
    await this.#drive.resize(sizeBytes);
    this.device.resized();
  }

  /** Works at one moment of several disks, in which nothing is written; named in the order of the machine's. */
  static held<T>(disks: readonly AttachedDisk[], work: () => Promise<T>): Promise<T> {
    return Drive.held(
      disks.map((disk) => disk.#drive),
      work,
    );
  }

  /** Who is told of requests that fail on the host; one at a time. */
  set onError(listener: (failure: DiskError) => void) {
    this.#failed = listener;
  }

  /** Who is told what becomes of block jobs; one at a time. */
  set onJob(listener: (told: JobTold) => void) {
    this.#jobTold = listener;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.jobs[Symbol.asyncDispose]();
    await this.#drive.close();
  }
}
