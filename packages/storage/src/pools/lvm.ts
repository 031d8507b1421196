/** A volume group of LVM's, or a thin pool in one; lvm(8) does the work. */

import { StorageError } from "../errors.ts";
import {
  type Capacity,
  checkedBytes,
  checkedName,
  elsewhere,
  find,
  type NewVolume,
  type Pool,
  type Volume,
} from "./pool.ts";
import { run, runJson, type Tool } from "./tools.ts";

export interface LvmOptions {
  group: string;
  /** With it volumes are thin: they read as zeros until they are written, and clones are snapshots. */
  thinPool?: string;
}

interface Row {
  lv_name: string;
  lv_path: string;
  lv_size: string;
  lv_attr: string;
  pool_lv: string;
  data_percent: string;
}

export class LvmPool implements Pool {
  readonly kind: "lvm" | "lvm-thin";
  readonly #options: LvmOptions;

  constructor(options: LvmOptions) {
    for (const name of [options.group, options.thinPool ?? "x"]) checkedName(name);
    this.kind = options.thinPool === undefined ? "lvm" : "lvm-thin";
    this.#options = options;
  }

  async start(): Promise<void> {
    await this.#lvm("vgchange", "--activate", "y", this.#options.group);
    if (this.#options.thinPool !== undefined) await this.#thinPool();
  }

  async stop(): Promise<void> {
    await this.#lvm("vgchange", "--activate", "n", this.#options.group);
  }

  async capacity(): Promise<Capacity> {
    if (this.#options.thinPool !== undefined) {
      const pool = await this.#thinPool();
      const totalBytes = Number(pool.lv_size);
      return { totalBytes, freeBytes: Math.floor(totalBytes * (1 - Number(pool.data_percent) / 100)) };
    }
    const rows = await this.#report("vgs", "vg", "vg_size,vg_free", this.#options.group);
    const { vg_size = "0", vg_free = "0" } = (rows[0] ?? {}) as { vg_size?: string; vg_free?: string };
    return { totalBytes: Number(vg_size), freeBytes: Number(vg_free) };
  }

  async volumes(): Promise<Volume[]> {
    const { thinPool = "" } = this.#options;
    return (await this.#rows())
      .filter(({ lv_attr, pool_lv }) => {
        // lvs(8), the first attribute: V is thin, - a plain volume; the others are pools and their parts.
        return thinPool === "" ? lv_attr.startsWith("-") : lv_attr.startsWith("V") && pool_lv === thinPool;
      })
      .map(({ lv_name, lv_path, lv_size, data_percent }) => {
        const sizeBytes = Number(lv_size);
        const part = thinPool === "" ? 1 : Number(data_percent) / 100;
        const allocatedBytes = Math.round(sizeBytes * part);
        return { name: lv_name, path: lv_path, format: "raw", sizeBytes, allocatedBytes };
      });
  }

  /** A plain volume holds what its extents held before; its first sectors are cleared. */
  async create(name: string, { sizeBytes, format = "raw" }: NewVolume): Promise<Volume> {
    if (format !== "raw") throw new StorageError("STORAGE_OPEN", "a logical volume is raw");
    const { group, thinPool } = this.#options;
    const size = `${checkedBytes(sizeBytes)}b`;
    const how =
      thinPool === undefined ? ["--size", size, group] : ["--virtualsize", size, "--thinpool", thinPool, group];
    await this.#lvm("lvcreate", "--yes", "--name", checkedName(name), ...how);
    return await find(this, name);
  }

  async clone(name: string, newName: string): Promise<Volume> {
    if (this.kind === "lvm") elsewhere("cloning a plain volume", "copy it, or keep volumes in a thin pool");
    const { group } = this.#options;
    // A thin snapshot is a volume like others, so it is activated with them.
    const always = ["--setactivationskip", "n"];
    await this.#lvm(
      "lvcreate",
      "--snapshot",
      ...always,
      "--name",
      checkedName(newName),
      `${group}/${checkedName(name)}`,
    );
    return await find(this, newName);
  }

  async resize(name: string, sizeBytes: number): Promise<Volume> {
    const volume = await find(this, name);
    // LVM does not know what of the volume is in use.
    if (sizeBytes < volume.sizeBytes)
      elsewhere("making a logical volume smaller", "lvreduce does it, after its content");
    const size = ["--size", `${checkedBytes(sizeBytes)}b`];
    if (sizeBytes > volume.sizeBytes) await this.#lvm("lvextend", ...size, `${this.#options.group}/${name}`);
    return await find(this, name);
  }

  async remove(name: string): Promise<void> {
    await find(this, name);
    await this.#lvm("lvremove", "--yes", `${this.#options.group}/${name}`);
  }

  async #thinPool(): Promise<Row> {
    const { group, thinPool } = this.#options;
    const pool = (await this.#rows()).find(({ lv_name }) => lv_name === thinPool);
    if (pool?.lv_attr.startsWith("t")) return pool;
    const how = `lvcreate --type thin-pool -L SIZE -n ${thinPool} ${group}`;
    throw new StorageError("STORAGE_HOST", `${group} has no thin pool ${thinPool}: ${how} makes one`);
  }

  async #rows(): Promise<Row[]> {
    const fields = "lv_name,lv_path,lv_size,lv_attr,pool_lv,data_percent";
    return (await this.#report("lvs", "lv", fields, this.#options.group)) as Row[];
  }

  async #report(command: string, what: string, fields: string, group: string): Promise<unknown[]> {
    const format = ["--reportformat", "json", "--units", "b", "--nosuffix", "--options", fields];
    const output = (await runJson(tool(command), ...format, group)) as {
      report?: Record<string, unknown[]>[];
    };
    return output.report?.[0]?.[what] ?? [];
  }

  async #lvm(command: string, ...args: string[]): Promise<void> {
    await run(tool(command), ...args);
  }
}

function tool(program: string): Tool {
  return { program, package: "lvm2" };
}
