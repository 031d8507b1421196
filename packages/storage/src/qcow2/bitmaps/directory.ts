/** The bitmap directory ("Bitmaps extension", "Bitmap directory"). */

import { MOST_BITMAP_BYTES } from "../../bitmaps/dirty-bitmaps.ts";
import { StorageError } from "../../errors.ts";
import type { Store } from "../../image.ts";
import type { Header } from "../header.ts";
import { Autoclear, Extension, getU64, Limit, roundUp, setU64, viewOf } from "../layout.ts";
import { readStored } from "../stored.ts";

const ENTRY = 24;
/** Where in an entry its flags are. */
const FLAGS = 12;
const MOST_DIRECTORY_BYTES = 64 << 20;
const MOST_NAME = 1023;

export const BitmapFlag = { IN_USE: 1, AUTO: 2 } as const;

export interface BitmapEntry {
  name: string;
  /** Where in the directory it is, in bytes. */
  at: number;
  tableOffset: number;
  /** Entries, a cluster each. */
  tableSize: number;
  flags: number;
  /** One bit stands for 2^this bytes. */
  granularityBits: number;
  extra: Uint8Array;
}

export interface BitmapDirectory {
  offset: number;
  length: number;
  entries: BitmapEntry[];
}

/** The directory that the header leads to; undefined where there is none, or who wrote last did not keep it. */
export async function readBitmapDirectory(store: Store, header: Header): Promise<BitmapDirectory | undefined> {
  const extension = header.extensions.find(({ type }) => type === Extension.BITMAPS);
  if (extension === undefined || (header.autoclear & Autoclear.BITMAPS) === 0n) return undefined;
  const refuse = (what: string) => new StorageError("STORAGE_CORRUPT", `${store.name}: the bitmap directory ${what}`);
  if (extension.data.length < 24) throw refuse("has no place");
  const view = viewOf(extension.data);
  const [count, length, offset] = [view.getUint32(0), getU64(view, 8), getU64(view, 16)];
  if (length > MOST_DIRECTORY_BYTES || count > Limit.BITMAPS || offset % 2 ** header.clusterBits !== 0) {
    throw refuse(`is said to have ${count} bitmaps in ${length} bytes at ${offset}`);
  }
  if (offset + length > store.sizeBytes) throw refuse("is behind the end of the file");
  const bytes = new Uint8Array(length);
  await readStored(store, offset, bytes);
  return { offset, length, entries: parseEntries(bytes, count, header, refuse) };
}

function parseEntries(
  bytes: Uint8Array,
  count: number,
  header: Header,
  refuse: (what: string) => Error,
): BitmapEntry[] {
  const view = viewOf(bytes);
  const entries: BitmapEntry[] = [];
  for (let index = 0, at = 0; index < count; index++) {
    if (at + ENTRY > bytes.length) throw refuse(`ends before entry ${index}`);
    const nameLength = view.getUint16(at + 18);
    const extraLength = view.getUint32(at + 20);
    const end = at + ENTRY + extraLength + nameLength;
    if (end > bytes.length || nameLength === 0 || nameLength > MOST_NAME)
      throw refuse(`has no room for entry ${index}`);
    const entry: BitmapEntry = {
      at,
      tableOffset: getU64(view, at),
      tableSize: view.getUint32(at + 8),
      flags: view.getUint32(at + FLAGS),
      granularityBits: view.getUint8(at + 17),
      extra: bytes.slice(at + ENTRY, at + ENTRY + extraLength),
      name: Buffer.from(bytes.subarray(at + ENTRY + extraLength, end)).toString("utf8"),
    };
    const type = view.getUint8(at + 16);
    if (type !== 1) throw refuse(`has the unknown type ${type} in entry ${index}`);
    const { granularityBits, tableSize, tableOffset } = entry;
    const size = 2 ** header.clusterBits;
    if (
      granularityBits < 9 ||
      granularityBits > 31 ||
      tableSize * size > MOST_BITMAP_BYTES ||
      tableOffset % size !== 0
    ) {
      throw refuse(`has an entry ${index} that cannot be: granularity 2^${granularityBits}, ${tableSize} clusters`);
    }
    entries.push(entry);
    at = roundUp(end, 8);
  }
  return entries;
}

/** Says of all that whoever opens the image next must not trust them: somebody writes it, and stores them when he is done. */
export async function markInUse(store: Store, { offset, entries }: BitmapDirectory): Promise<void> {
  const given = entries.filter(({ flags }) => !(flags & BitmapFlag.IN_USE));
  if (given.length === 0) return;
  for (const { at, flags } of given) {
    const field = new Uint8Array(4);
    viewOf(field).setUint32(0, flags | BitmapFlag.IN_USE);
    await store.write(offset + at + FLAGS, [field]);
  }
  await store.flush();
}

export function encodeBitmapDirectory(entries: readonly BitmapEntry[]): Uint8Array<ArrayBuffer> {
  const parts = entries.map((entry) => {
    const name = Buffer.from(entry.name);
    const bytes = new Uint8Array(roundUp(ENTRY + entry.extra.length + name.length, 8));
    const view = viewOf(bytes);
    setU64(view, 0, entry.tableOffset);
    view.setUint32(8, entry.tableSize);
    view.setUint32(FLAGS, entry.flags);
    view.setUint8(16, 1);
    view.setUint8(17, entry.granularityBits);
    view.setUint16(18, name.length);
    view.setUint32(20, entry.extra.length);
    bytes.set(entry.extra, ENTRY);
    bytes.set(name, ENTRY + entry.extra.length);
    return bytes;
  });
  return new Uint8Array(Buffer.concat(parts));
}
