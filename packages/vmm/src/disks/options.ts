/** What a user says of a disk. */

import { resolve } from "node:path";
import type { ErrorPolicy } from "@lodge/devices";
import { CACHE_MODES, type CacheMode, type Limits } from "@lodge/storage/terms";
import { parseCount, parseFields, parseSwitch } from "../configuration/fields.ts";
import { parseSize } from "../configuration/size.ts";
import { VmmError } from "../errors.ts";

export interface DiskOptions {
  /** An image's file, a block device of the host, or an NBD address. */
  readonly file: string;
  /**
   * `raw`, `qcow2`, or one that is only read: `vmdk`, `vpc` (VHD), `vhdx`, `vdi`. Default: what the file's name ends with,
   * else raw. The content does not decide, as the guest could write it.
   */
  readonly format?: string;
  /** The guest cannot write, and the file is opened for reading only. Default: false. */
  readonly readonly?: boolean;
  /** Default: `writeback`. */
  readonly cache?: CacheMode;
  /** What becomes of requests that fail on the host. Default: `report`, to the guest. */
  readonly error?: ErrorPolicy;
  /** Operations and bytes a second. Default: no limits. */
  readonly limits?: Limits;
  /** What the guest finds it by, in /dev/disk/by-id for one: up to 20 characters of ASCII. Default: none. */
  readonly serial?: string;
}

const ERROR_POLICIES: readonly ErrorPolicy[] = ["report", "stop", "ignore"];
const FIELDS = ["format", "readonly", "cache", "error", "iops", "iops-burst", "bps", "bps-burst", "serial"] as const;

/** A disk as it stands on a command line: `disk.qcow2,cache=none,iops=500,serial=A1`. */
export function parseDisk(text: string): DiskOptions {
  const { value: file, named } = parseFields(text, "--disk", FIELDS);
  const cache = oneOf(named.get("cache"), CACHE_MODES, "--disk cache");
  const error = oneOf(named.get("error"), ERROR_POLICIES, "--disk error");
  const [format, serial] = [named.get("format"), named.get("serial")];
  const limits = parseLimits(named);
  return {
    file,
    readonly: parseSwitch(named.get("readonly"), "readonly"),
    ...(format !== undefined && { format }),
    ...(cache !== undefined && { cache }),
    ...(error !== undefined && { error }),
    ...(limits !== undefined && { limits }),
    ...(serial !== undefined && { serial }),
  };
}

function parseLimits(named: ReadonlyMap<string, string>): Limits | undefined {
  const iops = named.get("iops");
  const iopsBurst = named.get("iops-burst");
  const bps = named.get("bps");
  const bpsBurst = named.get("bps-burst");
  if ((iops === undefined && iopsBurst !== undefined) || (bps === undefined && bpsBurst !== undefined)) {
    throw new VmmError("VMM_CONFIG", "--disk: a burst is of a limit: iops-burst goes with iops, bps-burst with bps");
  }
  if (iops === undefined && bps === undefined) return undefined;
  return {
    ...(iops !== undefined && { iops: parseCount(iops, "--disk iops") }),
    ...(iopsBurst !== undefined && { iopsBurst: parseCount(iopsBurst, "--disk iops-burst") }),
    ...(bps !== undefined && { bps: parseRate(bps, "--disk bps") }),
    ...(bpsBurst !== undefined && { bpsBurst: parseRate(bpsBurst, "--disk bps-burst") }),
  };
}

function parseRate(text: string, what: string): number {
  const bytes = parseSize(text, what);
  if (bytes > 0) return bytes;
  throw new VmmError("VMM_CONFIG", `${what} ${text}: nothing would ever pass`);
}

function oneOf<T extends string>(text: string | undefined, known: readonly T[], what: string): T | undefined {
  if (text === undefined) return undefined;
  const found = known.find((one) => one === text);
  if (found !== undefined) return found;
  throw new VmmError("VMM_CONFIG", `${what}=${text}: there is ${known.join(", ")}`);
}

/** Checks what can be told without opening anything. */
export function checkDisks(disks: readonly DiskOptions[]): readonly DiskOptions[] {
  const refuse = (message: string): never => {
    throw new VmmError("VMM_CONFIG", message);
  };
  const serials = new Map<string, string>();
  const files = new Map<string, boolean>();
  for (const { file, serial, limits, readonly: readOnly = false } of disks) {
    if (file === "") refuse("a disk without a file");
    const path = resolve(file);
    if (files.has(path) && !(readOnly && files.get(path)))
      refuse(`${file} is two of the machine's disks: only one that is readonly in each of them can be`);
    files.set(path, readOnly);
    checkLimits(file, limits);
    if (serial === undefined) continue;
    if (!/^[ -~]{1,20}$/.test(serial))
      refuse(`disk ${file}: its serial ${JSON.stringify(serial)} is not 1 to 20 characters of ASCII`);
    const other = serials.get(serial);
    if (other !== undefined)
      refuse(`the disks ${other} and ${file} have one serial, ${serial}: the guest could not tell them apart`);
    serials.set(serial, file);
  }
  return disks;
}

export function checkLimits(file: string, limits: Limits = {}): void {
  for (const [name, value] of Object.entries(limits)) {
    if (value === undefined || (Number.isFinite(value) && value > 0)) continue;
    throw new VmmError("VMM_CONFIG", `disk ${file}: ${name} ${value}: a limit is a number above 0`);
  }
}
