/**
 * NBD's numbers, as its specification names them (NetworkBlockDevice/nbd, doc/proto.md). Everything on the wire is
 * big-endian. Left out: oldstyle negotiation, resizing, extended headers.
 */

/** Where a server is found unless it says so: IANA's port. */
export const NBD_PORT = 10809;

/** "NBDMAGIC" and "IHAVEOPT", which begin a newstyle negotiation; the latter also begins each option. */
export const GREETING_MAGIC = 0x4e42444d41474943n;
export const OPTION_MAGIC = 0x49484156454f5054n;
export const OPTION_REPLY_MAGIC = 0x0003e889045565a9n;

/** Flags of the server's greeting, and of the client's answer. */
export const Handshake = { FIXED_NEWSTYLE: 1 << 0, NO_ZEROES: 1 << 1 } as const;

/** u64 OPTION_MAGIC, u32 option, u32 length; then `length` bytes. */
export const OPTION_HEADER_BYTES = 16;
/** u64 OPTION_REPLY_MAGIC, u32 option, u32 type, u32 length; then `length` bytes. */
export const OPTION_REPLY_HEADER_BYTES = 20;

export const Option = {
  EXPORT_NAME: 1,
  ABORT: 2,
  LIST: 3,
  STARTTLS: 5,
  INFO: 6,
  GO: 7,
  STRUCTURED_REPLY: 8,
  LIST_META_CONTEXT: 9,
  SET_META_CONTEXT: 10,
} as const;

/** Types of option replies; errors have the highest bit. */
export const OptionReply = {
  ACK: 1,
  SERVER: 2,
  INFO: 3,
  META_CONTEXT: 4,
  ERR_UNSUP: 0x8000_0001,
  ERR_POLICY: 0x8000_0002,
  ERR_INVALID: 0x8000_0003,
  ERR_PLATFORM: 0x8000_0004,
  ERR_TLS_REQD: 0x8000_0005,
  ERR_UNKNOWN: 0x8000_0006,
  ERR_SHUTDOWN: 0x8000_0007,
  ERR_BLOCK_SIZE_REQD: 0x8000_0008,
  ERR_TOO_BIG: 0x8000_0009,
} as const;

/** What NBD_REP_INFO tells. EXPORT: u64 size, u16 transmission flags. BLOCK_SIZE: u32 minimum, preferred, maximum. */
export const Info = { EXPORT: 0, NAME: 1, DESCRIPTION: 2, BLOCK_SIZE: 3 } as const;

/** Transmission flags: what an export can. */
export const Can = {
  HAS_FLAGS: 1 << 0,
  READ_ONLY: 1 << 1,
  SEND_FLUSH: 1 << 2,
  SEND_FUA: 1 << 3,
  SEND_TRIM: 1 << 5,
  SEND_WRITE_ZEROES: 1 << 6,
  SEND_DF: 1 << 7,
  CAN_MULTI_CONN: 1 << 8,
  SEND_CACHE: 1 << 10,
  SEND_FAST_ZERO: 1 << 11,
} as const;

export const REQUEST_MAGIC = 0x25609513;
/** u32 REQUEST_MAGIC, u16 flags, u16 type, u64 cookie, u64 offset, u32 length; a write's data follows. */
export const REQUEST_BYTES = 28;

export const Command = {
  READ: 0,
  WRITE: 1,
  DISC: 2,
  FLUSH: 3,
  TRIM: 4,
  CACHE: 5,
  WRITE_ZEROES: 6,
  BLOCK_STATUS: 7,
} as const;

export const CommandFlag = { FUA: 1 << 0, NO_HOLE: 1 << 1, DF: 1 << 2, REQ_ONE: 1 << 3, FAST_ZERO: 1 << 4 } as const;

export const SIMPLE_REPLY_MAGIC = 0x67446698;
/** u32 SIMPLE_REPLY_MAGIC, u32 error, u64 cookie; a successful read's data follows. */
export const SIMPLE_REPLY_BYTES = 16;

export const STRUCTURED_REPLY_MAGIC = 0x668e33ef;
/** u32 STRUCTURED_REPLY_MAGIC, u16 flags, u16 type, u64 cookie, u32 length; then `length` bytes. */
export const CHUNK_HEADER_BYTES = 20;
/** The chunk is its reply's last. */
export const CHUNK_DONE = 1 << 0;

/** Types of a structured reply's chunks; errors have the highest bit. */
export const Chunk = {
  NONE: 0,
  /** u64 offset, data. */
  OFFSET_DATA: 1,
  /** u64 offset, u32 length. */
  OFFSET_HOLE: 2,
  /** u32 context, then u32 length and u32 flags of each extent. */
  BLOCK_STATUS: 5,
  /** u32 error, u16 length of the message, message. */
  ERROR: 0x8001,
  /** The same, then u64 offset. */
  ERROR_OFFSET: 0x8002,
} as const;
export const CHUNK_IS_ERROR = 0x8000;

/** The protocol's own numbers, which are Linux's. */
export const NbdErrno = {
  EPERM: 1,
  EIO: 5,
  ENOMEM: 12,
  EINVAL: 22,
  ENOSPC: 28,
  EOVERFLOW: 75,
  ENOTSUP: 95,
  ESHUTDOWN: 108,
} as const;

/** The one metadata context that the specification defines, and its flags. */
export const BASE_ALLOCATION = "base:allocation";
export const AllocationFlag = { HOLE: 1 << 0, ZERO: 1 << 1 } as const;

/** Longer names and messages are none. */
export const MAX_STRING_BYTES = 4096;
/** The most that one read or write moves: what peers may assume where no block size was told. */
export const MAX_PAYLOAD_BYTES = 32 << 20;

/** A u64 of the wire as a number; what has none that is exact is larger than every disk. */
export function readNumber64(bytes: Buffer, at: number): number {
  const value = bytes.readUInt32BE(at) * 2 ** 32 + bytes.readUInt32BE(at + 4);
  return Number.isSafeInteger(value) ? value : Number.POSITIVE_INFINITY;
}

export function writeNumber64(bytes: Buffer, value: number, at: number): void {
  bytes.writeUInt32BE(Math.floor(value / 2 ** 32), at);
  bytes.writeUInt32BE(value % 2 ** 32, at + 4);
}
