/**
 * fw_cfg: what firmware and test kernels ask the machine about itself, by ports 0x510 (selector, 16 bits) and 0x511
 * (data), after QEMU's docs/specs/fw_cfg.rst. Without DMA and without files that the guest may write.
 */

import { SharedLock } from "@lodge/kvm";
import type { Registers } from "../registers.ts";

/** Keys of items; files begin at {@link FIRST_FILE}. */
const Key = { SIGNATURE: 0, ID: 1, RAM_SIZE: 3, CPUS: 5, MAX_CPUS: 15, FILES: 0x19 } as const;
const FIRST_FILE = 0x20;
/** Bits of {@link Key.ID}: the traditional interface. */
const TRADITIONAL = 1;
const FILE_NAME_BYTES = 56;

const Port = { SELECTOR: 0, DATA: 1 } as const;
const Word = { lock: 0, key: 1, position: 2 } as const;

export interface FirmwareConfigItems {
  readonly cpus: number;
  readonly maxCpus: number;
  readonly ramBytes: number;
  readonly files?: Readonly<Record<string, Uint8Array>>;
}

export class FirmwareConfig implements Registers {
  static readonly PORTS = 2;
  readonly #words: Int32Array;
  readonly #lock: SharedLock;
  readonly #items: ReadonlyMap<number, Uint8Array>;

  static create(): SharedArrayBuffer {
    return new SharedArrayBuffer(16);
  }

  constructor(shared: SharedArrayBuffer, items: FirmwareConfigItems) {
    this.#words = new Int32Array(shared);
    this.#lock = new SharedLock(this.#words, Word.lock);
    this.#items = itemsByKey(items);
  }

  read(offset: number, size: number): number {
    if (offset !== Port.DATA || size !== 1) return 0;
    this.#lock.acquire();
    const item = this.#items.get(this.#words[Word.key]!);
    const position = this.#words[Word.position]!;
    // Behind an item's end there are zeros.
    const value = item?.[position] ?? 0;
    if (item !== undefined && position < item.length) this.#words[Word.position] = position + 1;
    this.#lock.release();
    return value;
  }

  write(offset: number, size: number, value: number): void {
    if (offset !== Port.SELECTOR || size !== 2) return;
    this.#lock.acquire();
    this.#words[Word.key] = value & 0xffff;
    this.#words[Word.position] = 0;
    this.#lock.release();
  }
}

function itemsByKey({ cpus, maxCpus, ramBytes, files = {} }: FirmwareConfigItems): Map<number, Uint8Array> {
  const little = (value: number, bytes: number) =>
    Uint8Array.from({ length: bytes }, (_, byte) => Math.floor(value / 2 ** (8 * byte)) & 0xff);
  const entries = Object.entries(files).toSorted(([a], [b]) => (a < b ? -1 : 1));
  const items = new Map<number, Uint8Array>([
    [Key.SIGNATURE, new TextEncoder().encode("QEMU")],
    [Key.ID, little(TRADITIONAL, 4)],
    [Key.RAM_SIZE, little(ramBytes, 8)],
    [Key.CPUS, little(cpus, 2)],
    [Key.MAX_CPUS, little(maxCpus, 2)],
    [Key.FILES, directory(entries)],
  ]);
  for (const [index, [, content]] of entries.entries()) items.set(FIRST_FILE + index, content);
  return items;
}

/** A count, then 64 bytes for each file; its numbers are big-endian. */
function directory(entries: [string, Uint8Array][]): Uint8Array {
  const bytes = new Uint8Array(4 + entries.length * 64);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, entries.length);
  for (const [index, [name, content]] of entries.entries()) {
    const at = 4 + index * 64;
    view.setUint32(at, content.length);
    view.setUint16(at + 4, FIRST_FILE + index);
    bytes.set(new TextEncoder().encode(name).subarray(0, FILE_NAME_BYTES - 1), at + 8);
  }
  return bytes;
}
