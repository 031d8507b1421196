/**
 * Microsoft's VHD, which QEMU calls vpc: after the "Virtual Hard Disk Image Format Specification" (2006). Big-endian.
 */

import type { Store } from "../image.ts";
import { checkedPower, checkedSize, type OpenFormat, refusal } from "./format.ts";
import { type ImageMap, MappedImage, type Run } from "./mapped-image.ts";
import { Pages } from "./pages.ts";
import { equalBits, type HasBit, openParent } from "./parents.ts";

const SECTOR = 512;
/** The footer closes the file; a dynamic disk has a copy of it at its beginning. */
const FOOTER_BYTES = 512;
const COOKIE = "conectix";
const Footer = {
  VERSION: 12,
  DATA_OFFSET: 16,
  CREATOR: 28,
  CURRENT_SIZE: 48,
  CYLINDERS: 56,
  HEADS: 58,
  SECTORS: 59,
  TYPE: 60,
  CHECKSUM: 64,
  UNIQUE_ID: 68,
} as const;
const Type = { FIXED: 2, DYNAMIC: 3, DIFFERENCING: 4 } as const;

const DYNAMIC_BYTES = 1024;
const DYNAMIC_COOKIE = "cxsparse";
const Dynamic = {
  TABLE_OFFSET: 16,
  VERSION: 24,
  ENTRIES: 28,
  BLOCK_BYTES: 32,
  CHECKSUM: 36,
  PARENT_ID: 40,
  /** UTF-16, big-endian, 512 bytes with zeros at the end. */
  PARENT_NAME: 64,
  LOCATORS: 576,
} as const;
const PARENT_NAME_BYTES = 512;
/** "Parent Locator Entry": a platform's code, and where in the file its name for the parent stands. */
const Locator = { COUNT: 8, BYTES: 24, LENGTH: 8, OFFSET: 16 } as const;
/** Names in UTF-16, little-endian: relative to the image, and from the drive on. */
const WINDOWS_NAMES: readonly string[] = ["W2ru", "W2ku"];
const MAX_NAME_BYTES = 64 << 10;
const ABSENT = 0xffffffff;
/** Bytes of a sector bitmap that are looked at for one run. */
const BITMAP_STEP = 512;

/** Creators whose disks have the geometry's size, not the one that stands beside it (QEMU's block/vpc.c has the list). */
const SIZED_BY_GEOMETRY: readonly string[] = ["vpc ", "qemu"];
/** The largest geometry says "larger than I can say". */
const MAX_GEOMETRY_SECTORS = 65535 * 16 * 255;

/** Of a dynamic disk; a fixed one is its bytes and only ends with a footer. */
export function isVhd(start: Buffer): boolean {
  return start.toString("latin1", 0, 8) === COOKIE;
}

/** Whether it ends as a fixed disk does. A guest could write that into a raw disk, so it proves nothing alone. */
export async function endsAsVhd(store: Store): Promise<boolean> {
  return store.sizeBytes > FOOTER_BYTES && isVhd(await at(store, store.sizeBytes - FOOTER_BYTES, FOOTER_BYTES));
}

export const openVhd: OpenFormat = async (store, neighbours) => {
  const footer = await readFooter(store);
  const version = footer.readUInt32BE(Footer.VERSION);
  if (version >>> 16 !== 1) throw refusal(store, `VHD version ${version >>> 16}; 1 is known`);
  const sizeBytes = checkedSize(store, diskBytes(footer));
  const type = footer.readUInt32BE(Footer.TYPE);
  const identity = footer.toString("hex", Footer.UNIQUE_ID, Footer.UNIQUE_ID + 16);
  const image = { format: "vpc", name: store.name, sizeBytes, stores: [store], identity };
  switch (type) {
    case Type.FIXED: {
      if (sizeBytes > store.sizeBytes) throw refusal(store, `it has fewer bytes than its disk, which has ${sizeBytes}`);
      const map = {
        locate: async (at: number, length: number): Promise<Run> => ({ length, kind: "stored", store, at }),
      };
      return new MappedImage({ ...image, map });
    }
    case Type.DYNAMIC: {
      const header = await dynamicHeader(store, footer);
      return new MappedImage({ ...image, map: dynamicMap(store, header, sizeBytes, false) });
    }
    case Type.DIFFERENCING: {
      const header = await dynamicHeader(store, footer);
      const map = dynamicMap(store, header, sizeBytes, true);
      const wanted = header.toString("hex", Dynamic.PARENT_ID, Dynamic.PARENT_ID + 16);
      const parent = await openParent(store, neighbours, await parentNames(store, header), [wanted]);
      return new MappedImage({ ...image, map, parent });
    }
    default:
      throw refusal(store, `a VHD of type ${type}; fixed (2), dynamic (3) and differencing (4) are known`);
  }
};

/** The one at the end, or the copy if that is damaged. */
async function readFooter(store: Store): Promise<Buffer> {
  let damaged = false;
  for (const where of [store.sizeBytes - FOOTER_BYTES, 0]) {
    if (where < 0) continue;
    const footer = await at(store, where, FOOTER_BYTES);
    if (!isVhd(footer)) continue;
    if (hasChecksum(footer, Footer.CHECKSUM)) return footer;
    damaged = true;
  }
  throw refusal(store, damaged ? "its footer's checksum is wrong" : "this is no VHD image: it has no footer");
}

function diskBytes(footer: Buffer): number {
  const geometry =
    footer.readUInt16BE(Footer.CYLINDERS) * footer.readUInt8(Footer.HEADS) * footer.readUInt8(Footer.SECTORS);
  const byGeometry = SIZED_BY_GEOMETRY.includes(footer.toString("latin1", Footer.CREATOR, Footer.CREATOR + 4));
  if (byGeometry && geometry < MAX_GEOMETRY_SECTORS) return geometry * SECTOR;
  return Math.floor(Number(footer.readBigUInt64BE(Footer.CURRENT_SIZE)) / SECTOR) * SECTOR;
}

async function dynamicHeader(store: Store, footer: Buffer): Promise<Buffer> {
  const headerAt = Number(footer.readBigUInt64BE(Footer.DATA_OFFSET));
  if (!(headerAt <= store.sizeBytes - DYNAMIC_BYTES)) throw refusal(store, "its header is behind its end");
  const header = await at(store, headerAt, DYNAMIC_BYTES);
  if (header.toString("latin1", 0, 8) !== DYNAMIC_COOKIE || !hasChecksum(header, Dynamic.CHECKSUM)) {
    throw refusal(store, "the header of its block table is damaged");
  }
  return header;
}

/** What the image calls its parent: the name, then the paths of Windows. */
async function parentNames(store: Store, header: Buffer): Promise<string[]> {
  const name = Buffer.from(header.subarray(Dynamic.PARENT_NAME, Dynamic.PARENT_NAME + PARENT_NAME_BYTES)).swap16();
  const names = [untilZero(name.toString("utf16le"))];
  for (let index = 0; index < Locator.COUNT; index++) {
    const entry = header.subarray(Dynamic.LOCATORS + index * Locator.BYTES);
    const length = entry.readUInt32BE(Locator.LENGTH);
    const offset = Number(entry.readBigUInt64BE(Locator.OFFSET));
    if (!WINDOWS_NAMES.includes(entry.toString("latin1", 0, 4))) continue;
    if (length > MAX_NAME_BYTES || offset + length > store.sizeBytes)
      throw refusal(store, "its parent's name is damaged");
    names.push(untilZero((await at(store, offset, length)).toString("utf16le")));
  }
  return names;
}

function untilZero(text: string): string {
  return text.split("\0", 1)[0]!;
}

function dynamicMap(store: Store, header: Buffer, sizeBytes: number, hasParent: boolean): ImageMap {
  const blockBytes = checkedPower(store, header.readUInt32BE(Dynamic.BLOCK_BYTES), SECTOR, 1 << 28, "VHD blocks");
  const entries = header.readUInt32BE(Dynamic.ENTRIES);
  if (entries < Math.ceil(sizeBytes / blockBytes)) throw refusal(store, `${entries} blocks are too few for its disk`);
  return new DynamicMap(new Pages(store), Number(header.readBigUInt64BE(Dynamic.TABLE_OFFSET)), blockBytes, hasParent);
}

class DynamicMap implements ImageMap {
  readonly #pages: Pages;
  readonly #tableAt: number;
  readonly #blockBytes: number;
  /** Before a block stands which of its sectors are written, a bit for each; the others are the parent's, or zeros there. */
  readonly #bitmapBytes: number;
  readonly #hasParent: boolean;

  constructor(pages: Pages, tableAt: number, blockBytes: number, hasParent: boolean) {
    this.#hasParent = hasParent;
    this.#pages = pages;
    this.#tableAt = tableAt;
    this.#blockBytes = blockBytes;
    this.#bitmapBytes = Math.ceil(blockBytes / SECTOR / 8 / SECTOR) * SECTOR;
  }

  async locate(offset: number, length: number): Promise<Run> {
    const inside = offset % this.#blockBytes;
    const block = (offset - inside) / this.#blockBytes;
    let run = Math.min(length, this.#blockBytes - inside);
    const sector = (await this.#pages.bytes(this.#tableAt + 4 * block, 4)).readUInt32BE();
    if (sector === ABSENT) return { length: run, kind: "absent" };
    if (this.#hasParent) {
      const first = Math.floor(inside / SECTOR);
      const byte = Math.floor(first / 8);
      const bytes = Math.min(BITMAP_STEP, this.#bitmapBytes - byte);
      const bitmap = await this.#pages.bytes(sector * SECTOR + byte, bytes);
      const { set, count } = equalBits(bitmap, first % 8, 8 * bytes - (first % 8), highestFirst);
      run = Math.min(run, count * SECTOR - (inside % SECTOR));
      if (!set) return { length: run, kind: "absent" };
    }
    const at = sector * SECTOR + this.#bitmapBytes + inside;
    return { length: run, kind: "stored", store: this.#pages.store, at };
  }
}

const highestFirst: HasBit = (bytes, index) => (bytes[index >> 3]! & (0x80 >> (index & 7))) !== 0;

/** The complement of the sum of all bytes but the checksum's own. */
function hasChecksum(bytes: Buffer, at: number): boolean {
  let sum = 0;
  for (let index = 0; index < bytes.length; index++) if (index < at || index >= at + 4) sum += bytes[index]!;
  return ~sum >>> 0 === bytes.readUInt32BE(at);
}

async function at(store: Store, offset: number, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length);
  await store.read(offset, [bytes]);
  return bytes;
}
