/** A folder's entries as the kernel has them, by its own offsets: nothing is kept between requests. */

import { Dirent, getdents64, seek } from "@lodge/linux";

const BUFFER_BYTES = 32768;

export interface FolderEntry {
  readonly inode: bigint;
  /** Where the next one is. */
  readonly offset: bigint;
  /** DT_*. */
  readonly type: number;
  readonly name: Uint8Array;
}

/** Those from an offset on, until nobody wants more. Each is the caller's until the next one only. */
export function* folderEntries(fd: number, offset: bigint): Generator<FolderEntry> {
  const entries = new Uint8Array(BUFFER_BYTES);
  const view = new DataView(entries.buffer);
  seek(fd, offset);
  for (let length = getdents64(fd, entries); length > 0; length = getdents64(fd, entries)) {
    for (let at = 0; at < length; at += view.getUint16(at + Dirent.LENGTH, true)) {
      yield {
        inode: view.getBigUint64(at + Dirent.INODE, true),
        offset: view.getBigUint64(at + Dirent.OFFSET, true),
        type: entries[at + Dirent.TYPE]!,
        name: entries.subarray(at + Dirent.NAME, entries.indexOf(0, at + Dirent.NAME)),
      };
    }
  }
}
