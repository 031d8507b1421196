/**
 * 9P2000.L as Linux speaks it (include/net/9p/9p.h, Documentation/filesystems/9p.rst): messages are u32 size, u8 type,
 * u16 tag and fields, little-endian; strings are u16 length and bytes.
 */

import { constants } from "node:fs";
import { Errno, Refusal } from "../shared-folder/refusal.ts";
import type { FileStat, Share } from "../shared-folder/share.ts";

export const VERSION = "9P2000.L";
/** u32 size, u8 type, u16 tag. */
export const HEADER_LENGTH = 7;
/** What a read's or write's message has before its data: header, then u32 count, or u32 fid, u64 offset, u32 count. */
export const READ_REPLY_LENGTH = HEADER_LENGTH + 4;
export const WRITE_REQUEST_LENGTH = HEADER_LENGTH + 16;
export const NO_TAG = 0xffff;
export const NO_FID = 0xffffffff;
/** Names of one walk (walk(5)). */
export const MAX_WALK = 16;

/** Requests; the answer has the next number. */
export const Message = {
  RLERROR: 7,
  STATFS: 8,
  LOPEN: 12,
  LCREATE: 14,
  SYMLINK: 16,
  MKNOD: 18,
  RENAME: 20,
  READLINK: 22,
  GETATTR: 24,
  SETATTR: 26,
  XATTRWALK: 30,
  XATTRCREATE: 32,
  READDIR: 40,
  FSYNC: 50,
  LOCK: 52,
  GETLOCK: 54,
  LINK: 70,
  MKDIR: 72,
  RENAMEAT: 74,
  UNLINKAT: 76,
  VERSION: 100,
  AUTH: 102,
  ATTACH: 104,
  FLUSH: 108,
  WALK: 110,
  READ: 116,
  WRITE: 118,
  CLUNK: 120,
  REMOVE: 122,
} as const;

/** Reads a request's fields; one that ends too early is refused. */
export class FieldReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = HEADER_LENGTH;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  #take(length: number): number {
    const at = this.#at;
    if (at + length > this.#bytes.length) throw new Refusal(Errno.EPROTO);
    this.#at = at + length;
    return at;
  }

  u8(): number {
    return this.#view.getUint8(this.#take(1));
  }

  u16(): number {
    return this.#view.getUint16(this.#take(2), true);
  }

  u32(): number {
    return this.#view.getUint32(this.#take(4), true);
  }

  /** As a number: inexact above 2^53, where no file reaches. */
  u64(): number {
    const at = this.#take(8);
    return this.#view.getUint32(at, true) + this.#view.getUint32(at + 4, true) * 2 ** 32;
  }

  /** 64 bits that all count. */
  i64(): bigint {
    return this.#view.getBigInt64(this.#take(8), true);
  }

  /** A string's bytes, one character each: file names need not be UTF-8. */
  string(): string {
    const length = this.u16();
    const at = this.#take(length);
    return Buffer.from(this.#bytes.buffer, this.#bytes.byteOffset + at, length).toString("latin1");
  }
}

/** A file's identity: u8 type, u32 version, u64 path. */
export interface Qid {
  type: number;
  version: number;
  path: bigint;
}
export const QID_LENGTH = 13;

export function qidOf(share: Share, stat: FileStat): Qid {
  // A version says that content changed: whoever caches by it sees what the host does.
  return {
    type: qidType(Number(stat.mode)),
    version: Number(stat.mtimeNs & 0xffffffffn),
    path: share.path(stat.dev, stat.ino),
  };
}

/** qid.type: a folder, a symbolic link, or anything else. */
export function qidType(mode: number): number {
  const kind = mode & constants.S_IFMT;
  if (kind === constants.S_IFDIR) return 0x80;
  return kind === constants.S_IFLNK ? 0x02 : 0;
}

/** Writes an answer's fields behind the header. It grows to what handlers write, which they bound. */
export class FieldWriter {
  #view = new DataView(new ArrayBuffer(256));
  #at = HEADER_LENGTH;

  /** Where the next bytes go. The view may be another one afterwards. */
  #room(length: number): number {
    const at = this.#at;
    this.#at = at + length;
    if (this.#at > this.#view.byteLength) {
      const larger = new Uint8Array(Math.max(this.#at, this.#view.byteLength * 2));
      larger.set(new Uint8Array(this.#view.buffer));
      this.#view = new DataView(larger.buffer);
    }
    return at;
  }

  get length(): number {
    return this.#at;
  }

  u8(value: number): this {
    const at = this.#room(1);
    this.#view.setUint8(at, value);
    return this;
  }

  u16(value: number): this {
    const at = this.#room(2);
    this.#view.setUint16(at, value, true);
    return this;
  }

  u32(value: number): this {
    const at = this.#room(4);
    this.#view.setUint32(at, value, true);
    return this;
  }

  u64(value: bigint | number): this {
    const at = this.#room(8);
    this.#view.setBigUint64(at, BigInt(value), true);
    return this;
  }

  bytes(value: Uint8Array): this {
    const at = this.#room(value.length);
    new Uint8Array(this.#view.buffer).set(value, at);
    return this;
  }

  string(value: string): this {
    return this.u16(value.length).bytes(Buffer.from(value, "latin1"));
  }

  qid({ type, version, path }: Qid): this {
    return this.u8(type).u32(version).u64(path);
  }

  /** The whole message. `data`: bytes that follow, already where they belong. */
  finish(type: number, tag: number, data = 0): Uint8Array {
    this.#view.setUint32(0, this.#at + data, true);
    this.#view.setUint8(4, type);
    this.#view.setUint16(5, tag, true);
    return new Uint8Array(this.#view.buffer, 0, this.#at);
  }
}
