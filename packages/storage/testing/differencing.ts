/**
 * Disks that hold the changes to others. VMware's are qemu-img's; of the other formats it makes none, so its whole images
 * are made into parts, by the formats' specifications. What such a disk holds is told with them.
 */

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { crc32c } from "../src/import/vhdx/crc32c.ts";
import { randomBytes, randomNumbers } from "./bytes.ts";
import { run } from "./peers.ts";

const MIB = 1 << 20;
const SECTOR = 512;
/** Whole cylinders, so that every format has this size. */
export const DISK_BYTES = 6 * MIB;

export interface Differencing {
  child: string;
  parent: string;
  /** The disk's content. */
  content: Buffer;
}

/** What is written where, as the parent's and as the child's disk. */
function disk(seed: number): Buffer {
  const bytes = Buffer.alloc(DISK_BYTES);
  const random = randomNumbers(seed);
  for (let count = 0; count < 12; count++) {
    const length = SECTOR * (1 + random(200));
    randomBytes(length, seed + count).copy(bytes, SECTOR * random((DISK_BYTES - length) / SECTOR));
  }
  return bytes;
}

const OPTIONS: Record<string, string> = {
  vpc: "subformat=dynamic,force_size=on",
  vhdx: "subformat=dynamic,block_size=1M",
  vdi: "static=off",
};

/** Makes `child` upon `parent` in a folder; their names end with the format's. */
export async function makeDifferencing(folder: string, format: string): Promise<Differencing> {
  const ending = format === "vpc" ? "vhd" : format;
  const [parent, child] = [join(folder, `parent.${ending}`), join(folder, `child.${ending}`)];
  const [below, above] = [disk(1), disk(2)];
  if (format === "vmdk") {
    await convert(below, parent, format, "subformat=monolithicSparse");
    await run("qemu-img", "create", "-f", "vmdk", "-b", parent, "-F", "vmdk", child);
    const writes = ["write -P 3 64k 70k", "write -P 4 3M 512", "write -z 5M 64k"];
    await run("qemu-io", "-f", "vmdk", child, ...writes.flatMap((command) => ["-c", command]));
    below
      .fill(3, 64 << 10, 134 << 10)
      .fill(4, 3 * MIB, 3 * MIB + SECTOR)
      .fill(0, 5 * MIB, 5 * MIB + (64 << 10));
    return { child, parent, content: below };
  }
  await convert(below, parent, format, OPTIONS[format]!);
  await convert(above, child, format, OPTIONS[format]!);
  const part = { vpc: partOfVhd, vhdx: partOfVhdx, vdi: partOfVdi }[format]!;
  const bytes = readFileSync(child);
  const { whole, isHere, isZero } = part(bytes, readFileSync(parent));
  writeFileSync(child, whole);
  const content = Buffer.from(below);
  for (let at = 0; at < DISK_BYTES; at += SECTOR) {
    if (isZero?.(at)) content.fill(0, at, at + SECTOR);
    else if (isHere(at)) above.copy(content, at, at, at + SECTOR);
  }
  return { child, parent, content };
}

async function convert(bytes: Buffer, path: string, format: string, options: string): Promise<void> {
  writeFileSync(`${path}.raw`, bytes);
  await run("qemu-img", "convert", "-f", "raw", "-O", format, "-o", options, `${path}.raw`, path);
}

interface Part {
  whole: Buffer;
  /** The sector at this offset of the disk is the child's. */
  isHere: (at: number) => boolean;
  /** And reads as zeros. */
  isZero?: (at: number) => boolean;
}

/** "Virtual Hard Disk Image Format Specification": a type, the parent's id and name, and a bitmap before each block. */
function partOfVhd(bytes: Buffer, parent: Buffer): Part {
  const header = bytes.subarray(512, 1536);
  parent.copy(header, 40, parent.length - 512 + 68, parent.length - 512 + 84);
  Buffer.from("C:\\disks\\parent.vhd", "utf16le").swap16().copy(header, 64);
  const tableAt = Number(header.readBigUInt64BE(16));
  const blockBytes = header.readUInt32BE(32);
  const random = randomNumbers(3);
  const here = new Set<number>();
  for (let block = 0; block * blockBytes < DISK_BYTES; block++) {
    const sector = bytes.readUInt32BE(tableAt + 4 * block);
    if (sector === 0xffffffff) continue;
    const bitmap = bytes.subarray(sector * SECTOR, sector * SECTOR + blockBytes / SECTOR / 8).fill(0);
    for (let index = 0; index < blockBytes / SECTOR; ) {
      const isHere = random(2) === 0;
      for (let count = 1 + random(300); count > 0 && index < blockBytes / SECTOR; count--, index++) {
        if (!isHere) continue;
        bitmap[index >> 3]! |= 0x80 >> (index & 7);
        here.add(block * blockBytes + index * SECTOR);
      }
    }
  }
  for (const footer of [bytes.subarray(0, 512), bytes.subarray(bytes.length - 512)]) {
    footer.writeUInt32BE(4, 60);
    sum(footer, 64);
  }
  sum(header, 36);
  return { whole: bytes, isHere: (at) => here.has(at) };
}

function sum(bytes: Buffer, at: number): void {
  bytes.writeUInt32BE(0, at);
  bytes.writeUInt32BE(~bytes.reduce((total, byte) => total + byte, 0) >>> 0, at);
}

/** [MS-VHDX] 2.4, 2.5, 2.6.2.6: a flag, a locator, and a block with the bitmap of all sectors. */
function partOfVhdx(bytes: Buffer, parent: Buffer): Part {
  const find = (guid: string) => bytes.indexOf(Buffer.from(guid, "hex"), 192 << 10);
  const placeAt = (at: number) => Number(bytes.readBigUInt64LE(at));
  const batAt = placeAt(find("6677c22d23f600429d64115e9bfd4a08") + 16);
  const metadataAt = placeAt(find("06a27c8b90479a4bb8fe575f050f886e") + 16);
  const parameters =
    metadataAt +
    bytes.readUInt32LE(bytes.indexOf(Buffer.from("3767a1ca36fa434db3b633f0aa44e76b", "hex"), metadataAt) + 16);
  bytes.writeUInt32LE(bytes.readUInt32LE(parameters + 4) | 2, parameters + 4);
  const count = bytes.readUInt16LE(metadataAt + 10);
  bytes.writeUInt16LE(count + 1, metadataAt + 10);
  const entry = bytes.subarray(metadataAt + 32 * (count + 1));
  const locator = vhdxLocator(parent);
  entry.write("2d5fd3a80bb34d45abf7d3d84834ab0c", "hex");
  entry.writeUInt32LE(128 << 10, 16);
  entry.writeUInt32LE(locator.length, 20);
  entry.writeUInt32LE(4, 24);
  locator.copy(bytes, metadataAt + (128 << 10));
  // The bitmap is a new block at the end.
  const bitmapAt = Math.ceil(bytes.length / MIB) * MIB;
  const whole = Buffer.concat([bytes, Buffer.alloc(bitmapAt - bytes.length + MIB)]);
  const chunkRatio = (2 ** 23 * SECTOR) / MIB;
  whole.writeBigUInt64LE(BigInt(bitmapAt) | 6n, batAt + 8 * chunkRatio);
  const here = new Set<number>();
  const random = randomNumbers(4);
  for (let block = 0; block < DISK_BYTES / MIB; block++) {
    const at = batAt + 8 * block;
    const isStored = (whole[at]! & 7) === 6;
    // One block stays whole, one that is not stored stays zeros; the others are the parent's, in part or as a whole.
    const state = block === 1 ? whole[at]! & 7 : isStored ? 7 : 0;
    whole[at] = (whole[at]! & ~7) | state;
    for (let index = 0; index < MIB / SECTOR; ) {
      const isHere = random(2) === 0;
      for (let left = 1 + random(300); left > 0 && index < MIB / SECTOR; left--, index++) {
        const sector = (block * MIB) / SECTOR + index;
        if (isHere) whole[bitmapAt + (sector >> 3)]! |= 1 << (sector & 7);
        if (state === 6 || state === 2 || (state === 7 && isHere)) here.add(sector * SECTOR);
      }
    }
  }
  return { whole, isHere: (at) => here.has(at) };
}

function vhdxLocator(parent: Buffer): Buffer {
  // Of two headers the one that was written last has the GUID that counts.
  const [first, second] = [parent.subarray(64 << 10), parent.subarray(128 << 10)];
  const raw = (first.readBigUInt64LE(8) > second.readBigUInt64LE(8) ? first : second).subarray(32, 48);
  const turned = (from: number, to: number) => Buffer.from(raw.subarray(from, to)).reverse().toString("hex");
  const guid = `{${turned(0, 4)}-${turned(4, 6)}-${turned(6, 8)}-${raw.toString("hex", 8, 10)}-${raw.toString("hex", 10)}}`;
  const pairs = [
    ["parent_linkage", guid],
    ["relative_path", ".\\parent.vhdx"],
    ["absolute_win32_path", "\\\\?\\C:\\disks\\parent.vhdx"],
  ].map((pair) => pair.map((text) => Buffer.from(text, "utf16le")) as [Buffer, Buffer]);
  const table = Buffer.alloc(20 + 12 * pairs.length);
  table.write("b7ef4ab09ed1814ab78925b8e9445913", "hex");
  table.writeUInt16LE(pairs.length, 18);
  let end = table.length;
  pairs.forEach(([key, value], index) => {
    const at = 20 + 12 * index;
    table.writeUInt32LE(end, at);
    table.writeUInt32LE(end + key.length, at + 4);
    table.writeUInt16LE(key.length, at + 8);
    table.writeUInt16LE(value.length, at + 10);
    end += key.length + value.length;
  });
  return Buffer.concat([table, ...pairs.flat()]);
}

/** VDICore.h: a type, and the parent's two UUIDs. */
function partOfVdi(bytes: Buffer, parent: Buffer): Part {
  bytes.writeUInt32LE(4, 0x4c);
  parent.copy(bytes, 0x1a8, 0x188, 0x1a8);
  const mapAt = bytes.readUInt32LE(0x154);
  const blockBytes = bytes.readUInt32LE(0x178);
  // One block says zeros, and two are the parent's.
  bytes.writeUInt32LE(0xfffffffe, mapAt + 4);
  for (const block of [2, 3]) bytes.writeUInt32LE(0xffffffff, mapAt + 4 * block);
  const entry = (at: number) => bytes.readUInt32LE(mapAt + 4 * Math.floor(at / blockBytes));
  return { whole: bytes, isHere: (at) => entry(at) !== 0xffffffff, isZero: (at) => entry(at) === 0xfffffffe };
}

/** Makes a header's checksum right again, after its GUID of the last write was changed. */
export function rewriteVhdx(bytes: Buffer): void {
  for (const at of [64 << 10, 128 << 10]) {
    const header = bytes.subarray(at, at + 4096);
    header[32]! ^= 1;
    header.writeUInt32LE(crc32c(header, 4), 4);
  }
}
