/** The structures of FUSE's answers. */

import type { FileStat, Share } from "../shared-folder/share.ts";
import { Answer, DIRENT_BYTES } from "./layout.ts";

/** struct fuse_attr at a place. */
function putAttributes(view: DataView, at: number, share: Share, stat: FileStat): void {
  const wide = [share.path(stat.dev, stat.ino), stat.size, stat.blocks, ...seconds(stat)];
  for (const [index, value] of wide.entries()) view.setBigUint64(at + index * 8, BigInt.asUintN(64, value), true);
  const narrow = [...nanoseconds(stat), stat.mode, stat.nlink, stat.uid, stat.gid, 0n, stat.blksize, 0n];
  for (const [index, value] of narrow.entries()) view.setUint32(at + 48 + index * 4, Number(value), true);
}

const seconds = (stat: FileStat) => [stat.atimeNs, stat.mtimeNs, stat.ctimeNs].map((time) => time / 1_000_000_000n);
const nanoseconds = (stat: FileStat) => [stat.atimeNs, stat.mtimeNs, stat.ctimeNs].map((time) => time % 1_000_000_000n);

/** struct fuse_entry_out. Nothing of it is valid for any time: the host may change the share whenever it likes. */
export function entry(share: Share, number: number, stat: FileStat): Uint8Array {
  const view = new DataView(new ArrayBuffer(Answer.ENTRY + Answer.ATTR));
  view.setBigUint64(0, BigInt(number), true);
  putAttributes(view, Answer.ENTRY, share, stat);
  return new Uint8Array(view.buffer);
}

/** struct fuse_attr_out. */
export function attributes(share: Share, stat: FileStat): Uint8Array {
  const view = new DataView(new ArrayBuffer(Answer.ATTR_VALID + Answer.ATTR));
  putAttributes(view, Answer.ATTR_VALID, share, stat);
  return new Uint8Array(view.buffer);
}

/** struct fuse_open_out. */
export function opened(handle: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(Answer.OPEN));
  view.setBigUint64(0, BigInt(handle), true);
  return new Uint8Array(view.buffer);
}

/** struct fuse_statfs_out. */
export function space(share: Share, pinned: number): Uint8Array {
  const { blocks, bfree, bavail, files, ffree, bsize } = share.space(pinned);
  const view = new DataView(new ArrayBuffer(Answer.STATFS));
  for (const [index, value] of [blocks, bfree, bavail, files, ffree].entries())
    view.setBigUint64(index * 8, BigInt.asUintN(64, value), true);
  for (const [index, value] of [Number(bsize), 255, Number(bsize)].entries())
    view.setUint32(40 + index * 4, value, true);
  return new Uint8Array(view.buffer);
}

/** Folder entries (struct fuse_dirent), up to so many bytes. */
export class EntryList {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;

  constructor(most: number) {
    this.#bytes = new Uint8Array(most);
    this.#view = new DataView(this.#bytes.buffer);
  }

  /** False when it does not fit any more. */
  add(inode: bigint, offset: bigint, type: number, name: Uint8Array): boolean {
    const length = Math.ceil((DIRENT_BYTES + name.length) / 8) * 8;
    if (this.#at + length > this.#bytes.length) return false;
    this.#view.setBigUint64(this.#at, inode, true);
    this.#view.setBigUint64(this.#at + 8, offset, true);
    this.#view.setUint32(this.#at + 16, name.length, true);
    this.#view.setUint32(this.#at + 20, type, true);
    this.#bytes.set(name, this.#at + DIRENT_BYTES);
    this.#at += length;
    return true;
  }

  get bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.#at);
  }
}
