/** FUSE's messages as a virtio-fs device gets them (include/uapi/linux/fuse.h; virtio 1.2, 5.11): little-endian. */

/** struct virtio_fs_config: tag, NUL-padded, and the number of request queues. */
export const Config = { TAG_BYTES: 36, REQUEST_QUEUES: 36, LENGTH: 40 } as const;

/** struct fuse_in_header. */
export const Header = { LENGTH: 0, OPCODE: 4, UNIQUE: 8, NODE: 16, UID: 24, GID: 28, BYTES: 40 } as const;
/** struct fuse_out_header: u32 length, i32 error, u64 unique. */
export const REPLY_BYTES = 16;

export const Opcode = {
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  SETATTR: 4,
  READLINK: 5,
  SYMLINK: 6,
  MKNOD: 8,
  MKDIR: 9,
  UNLINK: 10,
  RMDIR: 11,
  RENAME: 12,
  LINK: 13,
  OPEN: 14,
  READ: 15,
  WRITE: 16,
  STATFS: 17,
  RELEASE: 18,
  FSYNC: 20,
  INIT: 26,
  OPENDIR: 27,
  READDIR: 28,
  RELEASEDIR: 29,
  FSYNCDIR: 30,
  CREATE: 35,
  DESTROY: 38,
  BATCH_FORGET: 42,
  RENAME2: 45,
} as const;

/** The version of the protocol that is spoken, and what of it is asked for in the answer to INIT. */
export const VERSION = { MAJOR: 7, MINOR: 31 } as const;
export const InitFlag = {
  ASYNC_READ: 1,
  ATOMIC_O_TRUNC: 1 << 3,
  BIG_WRITES: 1 << 5,
  PARALLEL_DIROPS: 1 << 18,
  MAX_PAGES: 1 << 22,
} as const;

/** struct fuse_setattr_in, behind the header. */
export const SetAttr = {
  VALID: 0,
  HANDLE: 8,
  SIZE: 16,
  ATIME: 32,
  MTIME: 40,
  ATIME_NS: 56,
  MTIME_NS: 60,
  MODE: 68,
  UID: 76,
  GID: 80,
  BYTES: 88,
} as const;

/** FATTR_*. */
export const Valid = {
  MODE: 1,
  UID: 2,
  GID: 4,
  SIZE: 8,
  ATIME: 16,
  MTIME: 32,
  ATIME_NOW: 128,
  MTIME_NOW: 256,
} as const;

/** The fixed parts of requests, in bytes; names and data follow. */
export const Fixed = {
  FORGET: 8,
  BATCH_FORGET: 8,
  FORGET_ONE: 16,
  MKNOD: 16,
  MKDIR: 8,
  RENAME: 8,
  RENAME2: 16,
  LINK: 8,
  OPEN: 8,
  CREATE: 16,
  READ: 40,
  WRITE: 40,
  HANDLE: 8,
  INIT: 16,
} as const;

/** struct fuse_attr, fuse_entry_out before it, and the others of the answers. */
export const Answer = { ATTR: 88, ENTRY: 40, ATTR_VALID: 16, OPEN: 16, WRITE: 8, STATFS: 80, INIT: 64 } as const;

/** struct fuse_dirent: u64 inode, u64 offset, u32 name's length, u32 type, the name, padded to 8. */
export const DIRENT_BYTES = 24;

export const ROOT = 1;
