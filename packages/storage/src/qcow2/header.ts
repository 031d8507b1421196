/** The header of a qcow2 image: what it says, and what is refused. */

import { StorageError } from "../errors.ts";
import {
  Extension,
  FEATURES,
  Field,
  FULL_LENGTH,
  getU64,
  Incompatible,
  Limit,
  MAGIC,
  roundUp,
  setU64,
  V2_LENGTH,
  V3_LENGTH,
  viewOf,
} from "./layout.ts";

export type Compression = "zlib" | "zstd";
/** What a disk writes wholly or not at all. */
const SECTOR = 512;
const COMPRESSIONS: readonly Compression[] = ["zlib", "zstd"];

export interface Header {
  version: 2 | 3;
  clusterBits: number;
  /** What the guest sees. */
  sizeBytes: number;
  /** Entries. */
  l1Size: number;
  l1Offset: number;
  refcountTableOffset: number;
  refcountTableClusters: number;
  snapshotCount: number;
  snapshotsOffset: number;
  incompatible: bigint;
  compatible: bigint;
  autoclear: bigint;
  /** Refcounts have 2^order bits. */
  refcountOrder: number;
  compression: Compression;
  backing?: { name: string; format?: string };
  /** Extensions that are kept as they are. */
  extensions: { type: number; data: Uint8Array }[];
}

/** Whether an image begins like qcow2 of some version. */
export function isQcow2(start: Uint8Array): boolean {
  return start.length >= 8 && viewOf(start).getUint32(0) === MAGIC;
}

/** The cluster size, so that the rest of the header can be read. */
export function clusterSizeOf(start: Uint8Array, name: string): number {
  const bits = viewOf(start).getUint32(Field.CLUSTER_BITS);
  const [least, most] = Limit.CLUSTER_BITS;
  if (bits < least || bits > most) {
    throw refused(name, `clusters of 2^${bits} bytes, where 2^${least} to 2^${most} are possible`);
  }
  return 2 ** bits;
}

/** Reads the header in the image's first cluster. Every number in it is checked here, so that nobody else has to. */
export function parseHeader(cluster: Uint8Array, name: string): Header {
  const view = viewOf(cluster);
  if (cluster.length < 512 || !isQcow2(cluster)) throw refused(name, "no qcow2 header");
  const version = view.getUint32(Field.VERSION);
  if (version !== 2 && version !== 3) throw refused(name, `version ${version} of qcow2, where 2 and 3 are known`);
  const clusterSize = clusterSizeOf(cluster, name);
  const length = version === 2 ? V2_LENGTH : view.getUint32(Field.HEADER_LENGTH);
  if (version === 3 && (length < V3_LENGTH || length > clusterSize || length % 8 !== 0)) {
    throw refused(name, `a header of ${length} bytes`);
  }
  const header: Header = {
    version,
    clusterBits: view.getUint32(Field.CLUSTER_BITS),
    sizeBytes: getU64(view, Field.SIZE),
    l1Size: view.getUint32(Field.L1_SIZE),
    l1Offset: getU64(view, Field.L1_OFFSET),
    refcountTableOffset: getU64(view, Field.REFCOUNT_TABLE_OFFSET),
    refcountTableClusters: view.getUint32(Field.REFCOUNT_TABLE_CLUSTERS),
    snapshotCount: view.getUint32(Field.SNAPSHOT_COUNT),
    snapshotsOffset: getU64(view, Field.SNAPSHOTS_OFFSET),
    incompatible: version === 2 ? 0n : view.getBigUint64(Field.INCOMPATIBLE),
    compatible: version === 2 ? 0n : view.getBigUint64(Field.COMPATIBLE),
    autoclear: version === 2 ? 0n : view.getBigUint64(Field.AUTOCLEAR),
    refcountOrder: version === 2 ? 4 : view.getUint32(Field.REFCOUNT_ORDER),
    compression: "zlib",
    extensions: [],
  };
  const backingFormat = readExtensions(header, cluster, length, view, name);
  refuseFeatures(header, view.getUint32(Field.CRYPT_METHOD), name);
  if (length > Field.COMPRESSION && version === 3) {
    const type = cluster[Field.COMPRESSION]!;
    const compression = COMPRESSIONS[type];
    const flagged = (header.incompatible & Incompatible.COMPRESSION) !== 0n;
    if (compression === undefined) throw refused(name, `the unknown compression type ${type}`);
    if (flagged !== (type !== 0)) throw refused(name, "a compression type that its feature bit contradicts");
    header.compression = compression;
  } else if ((header.incompatible & Incompatible.COMPRESSION) !== 0n) {
    throw refused(name, "a compression type that is not in its header");
  }
  readBacking(header, cluster, view, backingFormat, name);
  checkTables(header, clusterSize, name);
  return header;
}

function readExtensions(
  header: Header,
  cluster: Uint8Array,
  start: number,
  view: DataView,
  name: string,
): string | undefined {
  // The backing file's name ends the extensions where no end mark does.
  const backing = getU64(view, Field.BACKING_OFFSET);
  const end = backing === 0 ? cluster.length : Math.min(backing, cluster.length);
  let format: string | undefined;
  for (let at = start; at + 8 <= end; ) {
    const type = view.getUint32(at);
    const length = view.getUint32(at + 4);
    if (type === Extension.END) break;
    if (length > end - at - 8) throw refused(name, `a header extension 0x${type.toString(16)} of ${length} bytes`);
    const data = cluster.slice(at + 8, at + 8 + length);
    if (type === Extension.BACKING_FORMAT) format = Buffer.from(data).toString("utf8");
    else header.extensions.push({ type, data });
    at += 8 + roundUp(length, 8);
  }
  return format;
}

function refuseFeatures(header: Header, cryptMethod: number, name: string): void {
  if (cryptMethod !== 0) throw refused(name, "encryption, which Lodge does not do");
  const known = Incompatible.DIRTY | Incompatible.CORRUPT | Incompatible.COMPRESSION | Incompatible.EXTENDED_L2;
  const unknown = header.incompatible & ~known;
  if (unknown === 0n) return;
  const names = [];
  for (let bit = 0; bit < 64; bit++) {
    if ((unknown >> BigInt(bit)) & 1n) names.push(featureName(header, bit));
  }
  throw refused(name, `incompatible features that Lodge does not know: ${names.join(", ")}`);
}

/** What the image itself, or else the specification, calls an incompatible feature. */
function featureName(header: Header, bit: number): string {
  const table = header.extensions.find(({ type }) => type === Extension.FEATURE_NAMES)?.data ?? new Uint8Array();
  for (let at = 0; at + 48 <= table.length; at += 48) {
    if (table[at] !== 0 || table[at + 1] !== bit) continue;
    const text = Buffer.from(table.subarray(at + 2, at + 48))
      .toString("latin1")
      .replace(/\0.*$/s, "");
    if (/^[ -~]+$/.test(text)) return `${text} (bit ${bit})`;
  }
  const known = FEATURES.find(([kind, number]) => kind === 0 && number === bit);
  return known === undefined ? `bit ${bit}` : `${known[2]} (bit ${bit})`;
}

function readBacking(
  header: Header,
  cluster: Uint8Array,
  view: DataView,
  format: string | undefined,
  name: string,
): void {
  const offset = getU64(view, Field.BACKING_OFFSET);
  const length = view.getUint32(Field.BACKING_SIZE);
  if (offset === 0 || length === 0) return;
  if (length > Limit.BACKING_NAME || offset + length > cluster.length) {
    throw refused(name, `a backing file's name of ${length} bytes at ${offset}`);
  }
  const backing = Buffer.from(cluster.subarray(offset, offset + length)).toString("utf8");
  header.backing = format === undefined ? { name: backing } : { name: backing, format };
}

function checkTables(header: Header, clusterSize: number, name: string): void {
  const { sizeBytes, l1Size, l1Offset, refcountTableOffset, refcountTableClusters, snapshotCount } = header;
  const aligned = (offset: number) => offset < Limit.OFFSET && offset % clusterSize === 0;
  if (sizeBytes > Limit.OFFSET) throw refused(name, `a size of ${sizeBytes} bytes`);
  if (header.refcountOrder > 6) throw refused(name, `refcounts of 2^${header.refcountOrder} bits`);
  const entryBytes = entryBytesOf(header);
  if (entryBytes === 16 && clusterSize < 16384)
    throw refused(name, `extended L2 entries with clusters of ${clusterSize}`);
  if (l1Size * 8 > Limit.L1_BYTES || (l1Size > 0 && !aligned(l1Offset))) {
    throw refused(name, `an L1 table of ${l1Size} entries at ${l1Offset}`);
  }
  const perTable = (clusterSize / entryBytes) * clusterSize;
  if (l1Size < Math.ceil(sizeBytes / perTable)) {
    throw refused(name, `an L1 table of ${l1Size} entries, too few for ${sizeBytes} bytes`);
  }
  const tableBytes = refcountTableClusters * clusterSize;
  if (refcountTableClusters === 0 || tableBytes > Limit.REFCOUNT_TABLE_BYTES || !aligned(refcountTableOffset)) {
    throw refused(name, `a refcount table of ${refcountTableClusters} clusters at ${refcountTableOffset}`);
  }
  if (refcountTableOffset === 0 || (l1Size > 0 && l1Offset === 0)) throw refused(name, "a table where its header is");
  if (snapshotCount > Limit.SNAPSHOTS || (snapshotCount > 0 && !aligned(header.snapshotsOffset))) {
    throw refused(name, `${snapshotCount} snapshots at ${header.snapshotsOffset}`);
  }
}

export function entryBytesOf(header: Header): 8 | 16 {
  return (header.incompatible & Incompatible.EXTENDED_L2) === 0n ? 8 : 16;
}

/** The header as it stands in the image's first cluster. */
export function encodeHeader(header: Header, name: string): Uint8Array {
  const clusterSize = 2 ** header.clusterBits;
  const length = header.version === 2 ? V2_LENGTH : FULL_LENGTH;
  const format = header.backing?.format;
  const extensions = header.extensions.filter(({ type }) => type !== Extension.FEATURE_NAMES);
  if (format !== undefined) extensions.unshift({ type: Extension.BACKING_FORMAT, data: Buffer.from(format) });
  const backing = Buffer.from(header.backing?.name ?? "");
  const needed = (list: typeof extensions) =>
    list.reduce((sum, { data }) => sum + 8 + roundUp(data.length, 8), length + 8) + backing.length;
  // Names are for those who do not know the features. The backing file's name comes behind them, and is to be in the one sector
  // that a power cut leaves as it was or as it is.
  const names = { type: Extension.FEATURE_NAMES, data: featureTable() };
  if (header.version === 3 && needed([...extensions, names]) <= SECTOR) extensions.push(names);
  if (needed(extensions) > clusterSize || backing.length > Limit.BACKING_NAME) {
    throw new StorageError("STORAGE_OPEN", `${name}: the backing file's name is too long for an image's header`);
  }
  const bytes = new Uint8Array(needed(extensions));
  const view = viewOf(bytes);
  view.setUint32(Field.MAGIC, MAGIC);
  view.setUint32(Field.VERSION, header.version);
  view.setUint32(Field.CLUSTER_BITS, header.clusterBits);
  setU64(view, Field.SIZE, header.sizeBytes);
  view.setUint32(Field.L1_SIZE, header.l1Size);
  setU64(view, Field.L1_OFFSET, header.l1Offset);
  setU64(view, Field.REFCOUNT_TABLE_OFFSET, header.refcountTableOffset);
  view.setUint32(Field.REFCOUNT_TABLE_CLUSTERS, header.refcountTableClusters);
  view.setUint32(Field.SNAPSHOT_COUNT, header.snapshotCount);
  setU64(view, Field.SNAPSHOTS_OFFSET, header.snapshotsOffset);
  if (header.version === 3) {
    view.setBigUint64(Field.INCOMPATIBLE, header.incompatible);
    view.setBigUint64(Field.COMPATIBLE, header.compatible);
    view.setBigUint64(Field.AUTOCLEAR, header.autoclear);
    view.setUint32(Field.REFCOUNT_ORDER, header.refcountOrder);
    view.setUint32(Field.HEADER_LENGTH, length);
    view.setUint8(Field.COMPRESSION, COMPRESSIONS.indexOf(header.compression));
  }
  let at = length;
  for (const { type, data } of extensions) {
    view.setUint32(at, type);
    view.setUint32(at + 4, data.length);
    bytes.set(data, at + 8);
    at += 8 + roundUp(data.length, 8);
  }
  at += 8;
  if (header.backing !== undefined) {
    setU64(view, Field.BACKING_OFFSET, at);
    view.setUint32(Field.BACKING_SIZE, backing.length);
    bytes.set(backing, at);
  }
  return bytes;
}

function featureTable(): Uint8Array {
  const table = new Uint8Array(FEATURES.length * 48);
  for (const [index, [kind, bit, name]] of FEATURES.entries()) {
    table.set([kind, bit, ...Buffer.from(name)], index * 48);
  }
  return table;
}

function refused(name: string, what: string): StorageError {
  return new StorageError("STORAGE_OPEN", `${name}: the qcow2 image has ${what}`);
}
