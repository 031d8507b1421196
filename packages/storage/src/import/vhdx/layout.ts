/**
 * VHDX's tables ([MS-VHDX], "Virtual Hard Disk v2 (VHDX) File Format"; section numbers are its own). Little-endian.
 */

import type { Store } from "../../image.ts";
import { checkedPower, checkedSize, refusal, u64 } from "../format.ts";
import { crc32c } from "./crc32c.ts";

const KIB = 1024;
const MIB = 1 << 20;

/** 2.2: two copies each, at fixed places. */
const HEADERS_AT = [64 * KIB, 128 * KIB] as const;
const HEADER_BYTES = 4096;
const REGION_TABLES_AT = [192 * KIB, 256 * KIB] as const;
const TABLE_BYTES = 64 * KIB;
/** Of regions, and of metadata items. */
const MAX_ENTRIES = 2047;
/** Paths have 32,767 characters at most, and there are three. */
const MAX_LOCATOR_BYTES = 256 * KIB;
/** 2.6.2.6.3, as it lies in the file. */
const VHDX_LOCATOR = "b7ef4ab09ed1814ab78925b8e9445913";

/** 2.2.3 and 2.6.2: GUIDs as they lie in the file, their first three fields little-endian. */
const Region = {
  BAT: "6677c22d23f600429d64115e9bfd4a08",
  METADATA: "06a27c8b90479a4bb8fe575f050f886e",
} as const;
const Item = {
  FILE_PARAMETERS: "3767a1ca36fa434db3b633f0aa44e76b",
  VIRTUAL_DISK_SIZE: "2442a52f1bcd7648b2115dbed83bf4b8",
  PAGE_83: "ab12cabee6b2234593efc309e000c746",
  LOGICAL_SECTOR: "1dbf41816fa90947ba47f233a8faab5f",
  PHYSICAL_SECTOR: "c748a3cd5d4471449cc9e9885251c556",
  PARENT_LOCATOR: "2d5fd3a80bb34d45abf7d3d84834ab0c",
} as const;

/** Reads a part of the file that was written whole. */
export type ReadAt = (at: number, length: number) => Promise<Buffer>;

/** 2.1. */
export function isVhdx(start: Buffer): boolean {
  return start.toString("latin1", 0, 8) === "vhdxfile";
}

export interface Header {
  sequence: bigint;
  /** What children know the disk's content by. */
  dataWriteGuid: string;
  /** All zeros when there is nothing to replay. */
  logGuid: Buffer;
  logVersion: number;
  logAt: number;
  logBytes: number;
}

/** 2.2.2: of the two headers the valid one that was written last. */
export async function currentHeader(store: Store, read: ReadAt): Promise<Header> {
  let current: Header | undefined;
  for (const at of HEADERS_AT) {
    const header = await read(at, HEADER_BYTES);
    if (header.toString("latin1", 0, 4) !== "head" || crc32c(header, 4) !== header.readUInt32LE(4)) continue;
    const sequence = header.readBigUInt64LE(8);
    if (current !== undefined && current.sequence >= sequence) continue;
    const version = header.readUInt16LE(66);
    if (version !== 1) throw refusal(store, `VHDX version ${version}; 1 is known`);
    const log = { logVersion: header.readUInt16LE(64), logBytes: header.readUInt32LE(68), logAt: u64(header, 72) };
    const dataWriteGuid = header.toString("hex", 32, 48);
    current = { sequence, dataWriteGuid, logGuid: header.subarray(48, 64), ...log };
  }
  if (current === undefined) throw refusal(store, "both of its headers are damaged");
  return current;
}

/** 2.2.3: where the block allocation table and the metadata lie. */
export async function readRegions(store: Store, read: ReadAt): Promise<{ bat: Range; metadata: Range }> {
  for (const at of REGION_TABLES_AT) {
    const table = await read(at, TABLE_BYTES);
    if (table.toString("latin1", 0, 4) !== "regi" || crc32c(table, 4) !== table.readUInt32LE(4)) continue;
    const found = new Map<string, Range>();
    for (const entry of entries(store, table, table.readUInt32LE(8), 16)) {
      const guid = entry.toString("hex", 0, 16);
      const required = (entry.readUInt32LE(28) & 1) !== 0;
      if (required && guid !== Region.BAT && guid !== Region.METADATA)
        throw refusal(store, `an unknown region ${guid}`);
      found.set(guid, { at: u64(entry, 16), length: entry.readUInt32LE(24) });
    }
    const bat = found.get(Region.BAT);
    const metadata = found.get(Region.METADATA);
    if (bat !== undefined && metadata !== undefined) return { bat, metadata };
  }
  throw refusal(store, "both of its region tables are damaged");
}

export interface Range {
  at: number;
  length: number;
}

export interface Parameters {
  blockBytes: number;
  sizeBytes: number;
  sectorBytes: number;
  parent?: ParentLocator;
}

/** 2.6.2.6: the image that this one holds the changes to. */
export interface ParentLocator {
  /** GUIDs as they lie in a file. */
  linkages: string[];
  paths: string[];
}

/** 2.6: what the disk is. */
export async function readMetadata(store: Store, read: ReadAt, { at, length }: Range): Promise<Parameters> {
  const table = await read(at, TABLE_BYTES);
  if (table.toString("latin1", 0, 8) !== "metadata") throw refusal(store, "its metadata is damaged");
  const items = new Map<string, Buffer>();
  const known: readonly string[] = Object.values(Item);
  for (const entry of entries(store, table, table.readUInt16LE(10), 32)) {
    const guid = entry.toString("hex", 0, 16);
    const item = { at: entry.readUInt32LE(16), length: entry.readUInt32LE(20) };
    const required = (entry.readUInt32LE(24) & 4) !== 0;
    if (required && !known.includes(guid)) throw refusal(store, `an unknown metadata item ${guid}`);
    if (!known.includes(guid)) continue;
    if (
      item.length > (guid === Item.PARENT_LOCATOR ? MAX_LOCATOR_BYTES : KIB) ||
      item.at < TABLE_BYTES ||
      item.at + item.length > length
    ) {
      throw refusal(store, `its metadata item ${guid} lies outside of the metadata`);
    }
    items.set(guid, await read(at + item.at, item.length));
  }
  const item = (guid: string, bytes: number): Buffer => {
    const found = items.get(guid);
    if (found === undefined || found.length < bytes) throw refusal(store, `its metadata item ${guid} is missing`);
    return found;
  };
  const parameters = item(Item.FILE_PARAMETERS, 8);
  const hasParent = (parameters.readUInt32LE(4) & 2) !== 0;
  return {
    ...(hasParent && { parent: readLocator(store, item(Item.PARENT_LOCATOR, 20)) }),
    blockBytes: checkedPower(store, parameters.readUInt32LE(0), MIB, 256 * MIB, "VHDX blocks"),
    sizeBytes: checkedSize(store, u64(item(Item.VIRTUAL_DISK_SIZE, 8), 0)),
    sectorBytes: checkedPower(store, item(Item.LOGICAL_SECTOR, 4).readUInt32LE(), 512, 4096, "VHDX sectors"),
  };
}

/** 2.6.2.6: keys and values in UTF-16, of which a table of 12 bytes each says where they are. */
function readLocator(store: Store, locator: Buffer): ParentLocator {
  if (locator.toString("hex", 0, 16) !== VHDX_LOCATOR) throw refusal(store, "its parent is of an unknown kind");
  const count = locator.readUInt16LE(18);
  const pairs = new Map<string, string>();
  for (let index = 0; index < count; index++) {
    const at = 20 + 12 * index;
    if (at + 12 > locator.length) throw refusal(store, "the locator of its parent is damaged");
    const text = (offset: number, length: number) => {
      if (offset + length > locator.length) throw refusal(store, "the locator of its parent is damaged");
      return locator.toString("utf16le", offset, offset + length);
    };
    const key = text(locator.readUInt32LE(at), locator.readUInt16LE(at + 8));
    pairs.set(key, text(locator.readUInt32LE(at + 4), locator.readUInt16LE(at + 10)));
  }
  const all = (...keys: string[]) => keys.map((key) => pairs.get(key)).filter((value) => value !== undefined);
  return {
    linkages: all("parent_linkage", "parent_linkage2").map(guidBytes),
    paths: all("relative_path", "volume_path", "absolute_win32_path"),
  };
}

/** {83ED0EC3-24C8-49A6-A959-5E4BF1288BFB} as it lies in a file, whose first three fields are little-endian. */
function guidBytes(text: string): string {
  const digits = text.replace(/[{}-]/g, "").toLowerCase();
  const turned = (from: number, to: number) => digits.slice(from, to).match(/../g)?.reverse().join("") ?? "";
  return turned(0, 8) + turned(8, 12) + turned(12, 16) + digits.slice(16);
}

/** A table's entries of 32 bytes, which begin at `from`. */
function* entries(store: Store, table: Buffer, count: number, from: number): Generator<Buffer> {
  if (count > MAX_ENTRIES || from + 32 * count > table.length) throw refusal(store, `a table with ${count} entries`);
  for (let index = 0; index < count; index++) yield table.subarray(from + 32 * index, from + 32 * (index + 1));
}
