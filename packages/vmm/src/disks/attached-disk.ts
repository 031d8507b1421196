/** A disk of a machine, as it runs: an image behind a virtio block device. */

import { BlkDevice, type RequestFailure } from "@lodge/devices";
import { type CacheMode, Drive, type Limits, openStore, probeFormat } from "@lodge/storage";
import { VmmError } from "../errors.ts";
import { checkLimits, type DiskOptions } from "./options.ts";

/** Formats by how a file's name ends. */
const ENDINGS: readonly (readonly [ending: RegExp, format: string])[] = [
  [/\.(qcow2|qcow)$/i, "qcow2"],
  [/\.vmdk$/i, "vmdk"],
  [/\.vhdx$/i, "vhdx"],
  [/\.vhd$/i, "vpc"],
  [/\.vdi$/i, "vdi"],
];

/** A request that the host's disk failed; with the action `stop` it is tried again when the machine goes on. */
export interface DiskError extends RequestFailure {
  readonly disk: AttachedDisk;
}

export class AttachedDisk implements AsyncDisposable {
  readonly file: string;
  readonly serial: string | undefined;
  readonly device: BlkDevice;
  readonly #drive: Drive;
  #failed: (failure: DiskError) => void = () => {};

  private constructor({ file, serial, error }: DiskOptions, drive: Drive, queues: number) {
    this.file = file;
    this.serial = serial;
    this.#drive = drive;
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
  static async open(options: DiskOptions, queues: number): Promise<AttachedDisk> {
    const { file, readonly: readOnly = false, cache, limits } = options;
    const format = options.format ?? (await formatByName(file));
    const drive = await Drive.open(file, { format, readOnly, ...(cache && { cache }), ...(limits && { limits }) });
    return new AttachedDisk(options, drive, queues);
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

  /** Who is told of requests that fail on the host; one at a time. */
  set onError(listener: (failure: DiskError) => void) {
    this.#failed = listener;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#drive.close();
  }
}

/** The name decides. Content that says something else is refused, not believed: a guest may have written it. */
async function formatByName(file: string): Promise<string> {
  const format = ENDINGS.find(([ending]) => ending.test(file))?.[1];
  if (format !== undefined) return format;
  const store = await openStore(file, { readOnly: true, lock: false });
  const looks = await probeFormat(store).finally(() => store.close());
  if (looks === "raw") return looks;
  const say = `say format=${looks}, or format=raw if the guest shall see the file's bytes as they are`;
  throw new VmmError("VMM_CONFIG", `disk ${file} looks like ${looks}, and its name does not say so: ${say}`);
}
