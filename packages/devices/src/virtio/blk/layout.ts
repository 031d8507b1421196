/** The block device's constants and structures (virtio 1.2, 5.2). */

export const SECTOR = 512;

/** 5.2.3. */
export const BlkFeature = {
  SEG_MAX: 1n << 2n,
  RO: 1n << 5n,
  BLK_SIZE: 1n << 6n,
  FLUSH: 1n << 9n,
  TOPOLOGY: 1n << 10n,
  CONFIG_WCE: 1n << 11n,
  MQ: 1n << 12n,
  DISCARD: 1n << 13n,
  WRITE_ZEROES: 1n << 14n,
} as const;

/** struct virtio_blk_config (5.2.4): byte offsets. */
export const Config = {
  CAPACITY: 0,
  SEG_MAX: 12,
  BLK_SIZE: 20,
  PHYSICAL_BLOCK_EXP: 24,
  WRITEBACK: 32,
  NUM_QUEUES: 34,
  MAX_DISCARD_SECTORS: 36,
  MAX_DISCARD_SEG: 40,
  DISCARD_SECTOR_ALIGNMENT: 44,
  MAX_WRITE_ZEROES_SECTORS: 48,
  MAX_WRITE_ZEROES_SEG: 52,
  WRITE_ZEROES_MAY_UNMAP: 56,
  LENGTH: 60,
} as const;

/** Requests (5.2.6): u32 type, u32 reserved, u64 sector; data; u8 status. */
export const HEADER_LENGTH = 16;
export const Request = { IN: 0, OUT: 1, FLUSH: 4, GET_ID: 8, DISCARD: 11, WRITE_ZEROES: 13 } as const;
export const RequestStatus = { OK: 0, IOERR: 1, UNSUPP: 2 } as const;

/** GET_ID's answer: text, padded with zeros. */
export const ID_LENGTH = 20;

/** struct virtio_blk_discard_write_zeroes: u64 sector, u32 sectors, u32 flags. */
export const SEGMENT_LENGTH = 16;
export const SEGMENT_UNMAP = 1;

/** What one request may name: so many ranges, of so many sectors (1 GiB) each. */
export const MAX_SEGMENTS = 16;
export const MAX_SEGMENT_SECTORS = 1 << 21;
