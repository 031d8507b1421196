/** The files of a tar archive, which an OVA is: where they lie, without unpacking. POSIX ustar with pax and GNU names. */

import { StorageError } from "../errors.ts";
import type { Pieces } from "../file/pieces.ts";
import type { Extent, Store } from "../image.ts";
import { ReadOnlyStore } from "../import/read-only.ts";

const BLOCK = 512;
/** An appliance has a description, a manifest, a certificate and some disks. */
const MAX_FILES = 1024;
/** Of a pax header or a long name. */
const MAX_EXTRA_BYTES = 64 << 10;
const Field = { NAME: [0, 100], SIZE: [124, 12], CHECKSUM: [148, 8], TYPE: 156, PREFIX: [345, 155] } as const;

/** A file's place in the archive. */
export interface TarFile {
  at: number;
  length: number;
}

export async function readTar(store: Store): Promise<Map<string, TarFile>> {
  const files = new Map<string, TarFile>();
  let next: { name?: string; length?: number } = {};
  let entries = 0;
  for (let at = 0; at + BLOCK <= store.sizeBytes; entries++) {
    if (entries > 2 * MAX_FILES) throw refusal(store, `more than ${MAX_FILES} files`);
    const header = await bytesAt(store, at, BLOCK);
    // The end is two blocks of zeros.
    if (header.every((byte) => byte === 0)) break;
    if (checksum(header) !== octal(header, Field.CHECKSUM))
      throw refusal(store, `no tar header at ${at}: it is damaged`);
    const type = String.fromCharCode(header[Field.TYPE]!);
    const length = next.length ?? octal(header, Field.SIZE);
    const begin = at + BLOCK;
    if (!(length <= store.sizeBytes - begin)) throw refusal(store, `it ends inside of a file of ${length} bytes`);
    at = begin + Math.ceil(length / BLOCK) * BLOCK;
    if (type === "x" || type === "L") {
      if (length > MAX_EXTRA_BYTES) throw refusal(store, `a name of ${length} bytes`);
      const extra = await bytesAt(store, begin, length);
      next = { ...next, ...(type === "L" ? { name: untilNul(extra) } : paxRecords(extra)) };
      continue;
    }
    const prefix = untilNul(field(header, Field.PREFIX));
    const short = untilNul(field(header, Field.NAME));
    const name = next.name ?? (prefix === "" ? short : `${prefix}/${short}`);
    // Links, folders and devices are no disks.
    if (type === "0" || type === "\0") files.set(name.replace(/^\.\//, ""), { at: begin, length });
    next = {};
  }
  if (entries === 0) throw refusal(store, "this is no tar archive");
  return files;
}

/** A part of another store. */
export class Slice extends ReadOnlyStore {
  readonly name: string;
  readonly sizeBytes: number;
  readonly #store: Store;
  readonly #at: number;

  constructor(store: Store, name: string, { at, length }: TarFile) {
    super();
    this.name = `${store.name}:${name}`;
    this.sizeBytes = length;
    this.#store = store;
    this.#at = at;
  }

  protected override async readInside(offset: number, pieces: Pieces): Promise<void> {
    await this.#store.read(this.#at + offset, pieces);
  }

  async status(offset: number, length: number): Promise<Extent> {
    return await this.#store.status(this.#at + offset, length);
  }

  /** The archive stays open: it has other files. */
  async close(): Promise<void> {}
}

function field(header: Buffer, [at, length]: readonly [number, number]): Buffer {
  return header.subarray(at, at + length);
}

/** A number in octal digits; GNU's base 256, with the highest bit, where they do not suffice. */
function octal(header: Buffer, where: readonly [number, number]): number {
  const bytes = field(header, where);
  if ((bytes[0]! & 0x80) !== 0) return bytes.subarray(1).reduce((value, byte) => value * 256 + byte, bytes[0]! & 0x7f);
  const digits = /^[ ]*([0-7]+)[ \0]*$/.exec(bytes.toString("latin1"))?.[1];
  return digits === undefined ? Number.NaN : Number.parseInt(digits, 8);
}

/** The sum of the header's bytes, its own field taken as spaces. */
function checksum(header: Buffer): number {
  const [from, length] = Field.CHECKSUM;
  return header.reduce((sum, byte, at) => sum + (at >= from && at < from + length ? 0x20 : byte), 0);
}

/** LENGTH KEY=VALUE\n, of which the path and the size matter. */
function paxRecords(bytes: Buffer): { name?: string; length?: number } {
  const found: { name?: string; length?: number } = {};
  for (let at = 0; at < bytes.length; ) {
    const record = /^(\d{1,6}) ([^=]{1,100})=/.exec(bytes.toString("latin1", at, at + 120));
    const length = Number(record?.[1]);
    if (record === null || length <= record[0].length || at + length > bytes.length) break;
    const value = bytes.toString("utf8", at + record[0].length, at + length - 1);
    if (record[2] === "path") found.name = value;
    if (record[2] === "size" && /^\d{1,15}$/.test(value)) found.length = Number(value);
    at += length;
  }
  return found;
}

function untilNul(bytes: Buffer): string {
  const end = bytes.indexOf(0);
  return bytes.toString("utf8", 0, end < 0 ? bytes.length : end);
}

async function bytesAt(store: Store, at: number, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length);
  await store.read(at, [bytes]);
  return bytes;
}

function refusal(store: Store, why: string): StorageError {
  return new StorageError("STORAGE_OPEN", `${store.name}: ${why}`);
}
