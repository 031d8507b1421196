/** The qcow2 format's fields, as QEMU's docs/interop/qcow2.txt lays them out. All numbers are big-endian. */

export const MAGIC = 0x514649fb;

/** "Header". */
export const Field = {
  MAGIC: 0,
  VERSION: 4,
  BACKING_OFFSET: 8,
  BACKING_SIZE: 16,
  CLUSTER_BITS: 20,
  SIZE: 24,
  CRYPT_METHOD: 32,
  L1_SIZE: 36,
  L1_OFFSET: 40,
  REFCOUNT_TABLE_OFFSET: 48,
  REFCOUNT_TABLE_CLUSTERS: 56,
  SNAPSHOT_COUNT: 60,
  SNAPSHOTS_OFFSET: 64,
  /** Version 2 ends here. */
  INCOMPATIBLE: 72,
  COMPATIBLE: 80,
  AUTOCLEAR: 88,
  REFCOUNT_ORDER: 96,
  HEADER_LENGTH: 100,
  COMPRESSION: 104,
} as const;

export const V2_LENGTH = 72;
export const V3_LENGTH = 104;
/** With the compression type and its padding. */
export const FULL_LENGTH = 112;

/** "Header extensions". */
export const Extension = {
  END: 0,
  BACKING_FORMAT: 0xe2792aca,
  FEATURE_NAMES: 0x6803f857,
  BITMAPS: 0x23852875,
  ENCRYPTION: 0x0537be77,
  EXTERNAL_DATA: 0x44415441,
} as const;

export const Incompatible = {
  DIRTY: 1n << 0n,
  CORRUPT: 1n << 1n,
  EXTERNAL: 1n << 2n,
  COMPRESSION: 1n << 3n,
  EXTENDED_L2: 1n << 4n,
};
export const Compatible = { LAZY_REFCOUNTS: 1n << 0n };
export const Autoclear = { BITMAPS: 1n << 0n, RAW_EXTERNAL: 1n << 1n };

/** What the feature name table is made of: kind (0 incompatible, 1 compatible, 2 autoclear), bit, name. */
export const FEATURES: readonly (readonly [number, number, string])[] = [
  [0, 0, "dirty bit"],
  [0, 1, "corrupt bit"],
  [0, 2, "external data file"],
  [0, 3, "compression type"],
  [0, 4, "extended L2 entries"],
  [1, 0, "lazy refcounts"],
  [2, 0, "bitmaps"],
  [2, 1, "raw external data"],
];

/** The high halves of table entries. */
export const Entry = {
  COPIED: 0x80000000,
  COMPRESSED: 0x40000000,
  /** Bits 32 to 55 of an offset. */
  OFFSET_HIGH: 0x00ffffff,
  /** Bits 56 to 61, and in the low half 1 to 8. */
  RESERVED_HIGH: 0x3f000000,
  RESERVED_LOW: 0x1fe,
  /** In the low half: reads as zeros. */
  ZERO: 1,
} as const;

/** QEMU's bounds: what is beyond them no one can have made. */
export const Limit = {
  CLUSTER_BITS: [9, 21],
  L1_BYTES: 32 << 20,
  REFCOUNT_TABLE_BYTES: 8 << 20,
  SNAPSHOTS: 65536,
  SNAPSHOT_TABLE_BYTES: 64 << 20,
  BACKING_NAME: 1023,
  BITMAPS: 65535,
  /** Offsets in entries have 56 bits; we count to 2^53, which is beyond every file system. */
  OFFSET: 2 ** 53,
} as const;

/** A u64 below 2^53; what is larger comes out rounded, and beyond {@link Limit}. */
export function getU64(view: DataView, at: number): number {
  return view.getUint32(at) * 2 ** 32 + view.getUint32(at + 4);
}

export function setU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value / 2 ** 32);
  view.setUint32(at + 4, value);
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** The next multiple of a power of two, or any other number. */
export function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}
