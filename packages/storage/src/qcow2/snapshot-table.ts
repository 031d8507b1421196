/** The snapshot table ("Snapshots"). */

import { StorageError } from "../errors.ts";
import { getU64, Limit, roundUp, setU64, viewOf } from "./layout.ts";

/** Where an entry's fields are; extra data, id and name follow. */
const Field = {
  L1_OFFSET: 0,
  L1_SIZE: 8,
  ID_LENGTH: 12,
  NAME_LENGTH: 14,
  SECONDS: 16,
  NANOSECONDS: 20,
  VM_CLOCK: 24,
  VM_STATE: 32,
  EXTRA_LENGTH: 36,
  EXTRA: 40,
} as const;
/** VM state size, disk size and instruction count, 64 bits each. */
const KNOWN_EXTRA = 24;
const MOST_EXTRA = 1024;

export interface Snapshot {
  id: string;
  name: string;
  l1Offset: number;
  /** Entries. */
  l1Size: number;
  sizeBytes: number;
  dateSeconds: number;
  dateNanoseconds: number;
  vmClockNanoseconds: bigint;
  vmStateBytes: number;
  /** Extra data as it stands, to be kept. */
  extra: Uint8Array;
}

/** Where its L1 table lies. */
export function l1Of({ l1Offset, l1Size }: Snapshot): { offset: number; length: number } {
  return { offset: l1Offset, length: l1Size * 8 };
}

/** Which snapshot is meant: its ID or else its name, or both of what is given here. */
export type SnapshotKey = string | { id?: string; name?: string };

export function findSnapshot(snapshots: readonly Snapshot[], key: SnapshotKey, image: string): Snapshot {
  const found =
    typeof key === "string"
      ? (snapshots.find(({ id }) => id === key) ?? snapshots.find(({ name }) => name === key))
      : snapshots.find(({ id, name }) => id === (key.id ?? id) && name === (key.name ?? name));
  if (found !== undefined) return found;
  const { id, name } = typeof key === "string" ? { id: undefined, name: key } : key;
  const which = [id === undefined ? "" : ` of ID ${id}`, name === undefined ? "" : ` ${name}`].join("");
  throw new StorageError("STORAGE_OPEN", `${image}: there is no snapshot${which}`);
}

/** Reads `count` entries from the beginning of `bytes`; also says how long they are. */
export function parseSnapshots(
  bytes: Uint8Array,
  count: number,
  image: { name: string; sizeBytes: number; clusterSize: number },
): { snapshots: Snapshot[]; length: number } {
  const view = viewOf(bytes);
  const snapshots: Snapshot[] = [];
  let at = 0;
  for (let index = 0; index < count; index++) {
    const refuse = (what: string) =>
      new StorageError("STORAGE_OPEN", `${image.name}: snapshot ${index} of the qcow2 image has ${what}`);
    if (at + Field.EXTRA > bytes.length) throw refuse("no room in the snapshot table");
    const l1Offset = getU64(view, at + Field.L1_OFFSET);
    const l1Size = view.getUint32(at + Field.L1_SIZE);
    if (l1Size * 8 > Limit.L1_BYTES || l1Offset % image.clusterSize !== 0 || l1Offset >= Limit.OFFSET) {
      throw refuse(`an L1 table of ${l1Size} entries at ${l1Offset}`);
    }
    const idLength = view.getUint16(at + Field.ID_LENGTH);
    const nameLength = view.getUint16(at + Field.NAME_LENGTH);
    const extraLength = view.getUint32(at + Field.EXTRA_LENGTH);
    const names = at + Field.EXTRA + extraLength;
    if (extraLength > MOST_EXTRA || names + idLength + nameLength > bytes.length) throw refuse("no room for its names");
    const text = (start: number, length: number) => Buffer.from(bytes.subarray(start, start + length)).toString("utf8");
    const sizeBytes = extraLength >= 16 ? getU64(view, at + Field.EXTRA + 8) : image.sizeBytes;
    if (sizeBytes >= Limit.OFFSET) throw refuse(`a size of ${sizeBytes} bytes`);
    snapshots.push({
      id: text(names, idLength),
      name: text(names + idLength, nameLength),
      l1Offset,
      l1Size,
      sizeBytes,
      dateSeconds: view.getUint32(at + Field.SECONDS),
      dateNanoseconds: view.getUint32(at + Field.NANOSECONDS),
      vmClockNanoseconds: view.getBigUint64(at + Field.VM_CLOCK),
      vmStateBytes: extraLength >= 8 ? getU64(view, at + Field.EXTRA) : view.getUint32(at + Field.VM_STATE),
      extra: bytes.slice(at + Field.EXTRA, names),
    });
    at = roundUp(names + idLength + nameLength, 8);
  }
  return { snapshots, length: at };
}

export function encodeSnapshots(snapshots: readonly Snapshot[]): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.concat(snapshots.map(encodeSnapshot)));
}

function encodeSnapshot(snapshot: Snapshot): Uint8Array {
  const id = Buffer.from(snapshot.id);
  const name = Buffer.from(snapshot.name);
  const extra = new Uint8Array(Math.max(KNOWN_EXTRA, snapshot.extra.length));
  // No instruction count, unless one is there.
  extra.fill(0xff, 16, 24);
  extra.set(snapshot.extra);
  setU64(viewOf(extra), 0, snapshot.vmStateBytes);
  setU64(viewOf(extra), 8, snapshot.sizeBytes);
  const names = Field.EXTRA + extra.length;
  const bytes = new Uint8Array(roundUp(names + id.length + name.length, 8));
  const view = viewOf(bytes);
  setU64(view, Field.L1_OFFSET, snapshot.l1Offset);
  view.setUint32(Field.L1_SIZE, snapshot.l1Size);
  view.setUint16(Field.ID_LENGTH, id.length);
  view.setUint16(Field.NAME_LENGTH, name.length);
  view.setUint32(Field.SECONDS, snapshot.dateSeconds);
  view.setUint32(Field.NANOSECONDS, snapshot.dateNanoseconds);
  view.setBigUint64(Field.VM_CLOCK, snapshot.vmClockNanoseconds);
  view.setUint32(Field.VM_STATE, snapshot.vmStateBytes < 2 ** 32 ? snapshot.vmStateBytes : 0);
  view.setUint32(Field.EXTRA_LENGTH, extra.length);
  bytes.set(extra, Field.EXTRA);
  bytes.set(id, names);
  bytes.set(name, names + id.length);
  return bytes;
}
