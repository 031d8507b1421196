/** A folder on a network file system, which is mounted where it is used. */

import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { StorageError } from "../errors.ts";
import { FolderPool } from "./folder.ts";
import type { Capacity, NewVolume, Volume } from "./pool.ts";
import { run, type Tool } from "./tools.ts";

export interface NetworkFolderOptions {
  /** As mount(8) takes it: SERVER:/EXPORT, //SERVER/SHARE … */
  source: string;
  /** nfs, nfs4, cifs, glusterfs, ceph … */
  type: string;
  /** Where it is mounted: a folder that is there. */
  folder: string;
  /** mount's -o. */
  options?: string;
}

const MOUNT: Tool = { program: "mount", package: "mount" };
const UMOUNT: Tool = { program: "umount", package: "mount" };
/** What mount calls for a type, and who has it. */
const HELPERS: ReadonlyMap<string, string> = new Map([
  ["nfs", "nfs-common"],
  ["nfs4", "nfs-common"],
  ["cifs", "cifs-utils"],
  ["glusterfs", "glusterfs-client"],
  ["ceph", "ceph-common"],
]);

export class NetworkFolderPool extends FolderPool {
  override readonly kind = "network-folder";
  readonly #options: NetworkFolderOptions;
  #mounted = false;

  constructor(options: NetworkFolderOptions) {
    super(resolve(options.folder));
    this.#options = options;
  }

  override async start(): Promise<void> {
    const { source, type, options } = this.#options;
    if (source.startsWith("-")) throw new StorageError("STORAGE_OPEN", `${source} is nothing to be mounted`);
    await super.start();
    if (await this.#isMounted()) return;
    try {
      await run(MOUNT, "-t", type, ...(options === undefined ? [] : ["-o", options]), "--", source, this.folder);
    } catch (cause) {
      const helper = HELPERS.get(type);
      const missing = helper !== undefined && !existsSync(`/sbin/mount.${type}`);
      const hint = missing ? `; mount needs Debian's package ${helper} for it` : "";
      throw new StorageError("STORAGE_HOST", `${(cause as Error).message}${hint}`, { cause });
    }
    this.#mounted = true;
  }

  /** What was mounted before stays so. */
  override async stop(): Promise<void> {
    if (this.#mounted) await run(UMOUNT, "--", this.folder);
    this.#mounted = false;
  }

  override async capacity(): Promise<Capacity> {
    await this.#check();
    return await super.capacity();
  }

  override async volumes(): Promise<Volume[]> {
    await this.#check();
    return await super.volumes();
  }

  override async create(name: string, volume: NewVolume): Promise<Volume> {
    await this.#check();
    return await super.create(name, volume);
  }

  /** Without its mount the folder is another one, on this host's own disk. */
  async #check(): Promise<void> {
    if (await this.#isMounted()) return;
    throw new StorageError("STORAGE_HOST", `${this.folder}: ${this.#options.source} is not mounted there`);
  }

  /** proc(5), mountinfo: the fifth field is the place; behind a dash stand type and source. */
  async #isMounted(): Promise<boolean> {
    const lines = (await readFile("/proc/self/mountinfo", "utf8")).split("\n");
    return lines.some((line) => {
      const [before = "", after = ""] = line.split(" - ");
      return plain(before.split(" ")[4]) === this.folder && plain(after.split(" ")[1]) === this.#options.source;
    });
  }
}

/** Spaces and such stand there as octal numbers. */
function plain(field: string | undefined): string | undefined {
  return field?.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}
