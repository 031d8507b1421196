/**
 * VHDX's log ([MS-VHDX] 2.3): changes of tables that were written down and perhaps not carried out. They are carried out
 * in memory, over the file as it is.
 */

import { cutPieces, fillPieces, type Pieces, scatter } from "../../file/pieces.ts";
import type { Extent, Store } from "../../image.ts";
import { refusal, u64 } from "../format.ts";
import { ReadOnlyStore } from "../read-only.ts";
import { crc32c } from "./crc32c.ts";
import type { Header } from "./layout.ts";

const SECTOR = 4096;
const ENTRY_HEADER_BYTES = 64;
const DESCRIPTOR_BYTES = 32;
/** Hyper-V and QEMU make logs of 1 MiB. */
const MAX_LOG_BYTES = 16 << 20;
/** Each is looked at when a page of tables is read. */
const MAX_CHANGES = 65536;

/** 2.3.1.1. */
interface Entry {
  sequence: bigint;
  /** Where in the log the oldest entry stands that this one builds on. */
  tail: number;
  at: number;
  length: number;
  /** The file had this size at least when the entry was written. */
  flushedBytes: number;
  changes: Change[];
}

/** What is written over the file: data, or zeros. */
interface Change {
  at: number;
  length: number;
  data: Buffer | undefined;
}

/** The file after the replay, which is the file itself when there is nothing to replay. */
export async function replayed(store: Store, { logGuid, logVersion, logAt, logBytes }: Header): Promise<Store> {
  if (logGuid.every((byte) => byte === 0)) return store;
  if (logVersion !== 0) throw refusal(store, `its log has version ${logVersion}; 0 is known`);
  if (logBytes % SECTOR !== 0 || logBytes > MAX_LOG_BYTES || !(logAt + logBytes <= store.sizeBytes)) {
    throw refusal(store, `its log, ${logBytes} bytes at ${logAt}, is none`);
  }
  const log = Buffer.alloc(logBytes);
  await store.read(logAt, [log]);
  const entries = activeSequence(log, logGuid);
  if (entries === undefined) {
    const cure = "a machine that used it was cut off, and Hyper-V or qemu-img check -r all has to mend it first";
    throw refusal(store, `its log is damaged: ${cure}`);
  }
  if (entries.at(-1)!.flushedBytes > store.sizeBytes)
    throw refusal(store, "the file has become shorter: its end is lost");
  const changes = entries.flatMap((entry) => entry.changes);
  if (changes.length > MAX_CHANGES) throw refusal(store, `its log holds ${changes.length} changes`);
  return new PatchedStore(store, changes);
}

/** 2.3.2: of all unbroken sequences of entries that hold their own tail the one with the latest end. */
function activeSequence(log: Buffer, guid: Buffer): Entry[] | undefined {
  const entries = new Map<number, Entry>();
  for (let at = 0; at < log.length; at += SECTOR) {
    const entry = readEntry(log, guid, at);
    if (entry !== undefined) entries.set(at, entry);
  }
  let active: Entry[] | undefined;
  for (const head of entries.values()) {
    if (active !== undefined && head.sequence <= active.at(-1)!.sequence) continue;
    const sequence: Entry[] = [];
    let entry = entries.get(head.tail);
    // Each step is one entry further, so the ring is gone through once at most.
    while (entry !== undefined && sequence.length < entries.size) {
      sequence.push(entry);
      if (entry === head) break;
      const next: Entry | undefined = entries.get((entry.at + entry.length) % log.length);
      entry = next?.sequence === entry.sequence + 1n ? next : undefined;
    }
    if (entry === head) active = sequence;
  }
  return active;
}

/** The entry that begins there, if one does. */
function readEntry(log: Buffer, guid: Buffer, at: number): Entry | undefined {
  if (log.toString("latin1", at, at + 4) !== "loge" || !log.subarray(at + 32, at + 48).equals(guid)) return undefined;
  const length = log.readUInt32LE(at + 8);
  const count = log.readUInt32LE(at + 24);
  const descriptorBytes = Math.ceil((ENTRY_HEADER_BYTES + DESCRIPTOR_BYTES * count) / SECTOR) * SECTOR;
  if (length === 0 || length % SECTOR !== 0 || length > log.length || descriptorBytes > length) return undefined;
  // An entry may go on at the log's beginning.
  const doubled = at + length <= log.length ? log : Buffer.concat([log, log]);
  const bytes = doubled.subarray(at, at + length);
  if (crc32c(bytes, 4) !== bytes.readUInt32LE(4)) return undefined;
  const sequence = bytes.readBigUInt64LE(16);
  const changes = readChanges(bytes, count, descriptorBytes, sequence);
  if (sequence === 0n || changes === undefined) return undefined;
  return { sequence, tail: bytes.readUInt32LE(12), at, length, flushedBytes: u64(bytes, 48), changes };
}

/** 2.3.1.2 to 2.3.1.4: descriptors, and for each of data a sector behind them. */
function readChanges(entry: Buffer, count: number, dataAt: number, sequence: bigint): Change[] | undefined {
  const changes: Change[] = [];
  for (let index = 0; index < count; index++) {
    const start = ENTRY_HEADER_BYTES + DESCRIPTOR_BYTES * index;
    const descriptor = entry.subarray(start, start + DESCRIPTOR_BYTES);
    const at = u64(descriptor, 16);
    const kind = descriptor.toString("latin1", 0, 4);
    if (descriptor.readBigUInt64LE(24) !== sequence || at % SECTOR !== 0) return undefined;
    if (kind === "zero") {
      changes.push({ at, length: u64(descriptor, 8), data: undefined });
      continue;
    }
    const sector = entry.subarray(dataAt, dataAt + SECTOR);
    dataAt += SECTOR;
    if (kind !== "desc" || sector.length < SECTOR || sector.toString("latin1", 0, 4) !== "data") return undefined;
    const high = BigInt(sector.readUInt32LE(4));
    if ((high << 32n) + BigInt(sector.readUInt32LE(4092)) !== sequence) return undefined;
    // The sector's first eight and last four bytes stand in the descriptor: the signature took their place.
    const data = Buffer.from(sector);
    descriptor.copy(data, 0, 8, 16);
    descriptor.copy(data, 4092, 4, 8);
    changes.push({ at, length: SECTOR, data });
  }
  return changes;
}

/** A store with changes over it, which are few. */
class PatchedStore extends ReadOnlyStore {
  readonly name: string;
  readonly sizeBytes: number;
  readonly #store: Store;
  readonly #changes: readonly Change[];

  constructor(store: Store, changes: readonly Change[]) {
    super();
    this.name = store.name;
    this.sizeBytes = store.sizeBytes;
    this.#store = store;
    this.#changes = changes;
  }

  protected override async readInside(offset: number, pieces: Pieces, length: number): Promise<void> {
    await this.#store.read(offset, pieces);
    const end = offset + length;
    // The later change counts where two meet.
    for (const { at, length, data } of this.#changes) {
      const from = Math.max(at, offset);
      const to = Math.min(at + length, end);
      if (from >= to) continue;
      if (data === undefined) fillPieces(cutPieces(pieces, from - offset, to - from), 0);
      else scatter(data.subarray(from - at, to - at), pieces, from - offset);
    }
  }

  status(offset: number, length: number): Promise<Extent> {
    return this.#store.status(offset, length);
  }

  close(): Promise<void> {
    return this.#store.close();
  }
}
