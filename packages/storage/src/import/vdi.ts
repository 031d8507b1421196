/**
 * VirtualBox's VDI: a header, a map of u32 block numbers, blocks. After VirtualBox's VDICore.h; QEMU's block/vdi.c agrees.
 * Little-endian. A differencing image says whose changes it holds by UUIDs alone: VirtualBox knows the files by its registry,
 * here they are the ones in the same folder.
 */

import type { Store } from "../image.ts";
import { checkedPower, checkedSize, head, type OpenFormat, refusal, u64 } from "./format.ts";
import { type ImageMap, MappedImage, type Run } from "./mapped-image.ts";
import { Pages } from "./pages.ts";
import { type Neighbours, openParent } from "./parents.ts";

const SIGNATURE = 0xbeda107f;
const HEADER_BYTES = 0x1c8;
const Field = {
  SIGNATURE: 0x40,
  VERSION: 0x44,
  TYPE: 0x4c,
  MAP_OFFSET: 0x154,
  DATA_OFFSET: 0x158,
  SECTOR_BYTES: 0x168,
  DISK_BYTES: 0x170,
  BLOCK_BYTES: 0x178,
  BLOCK_EXTRA: 0x17c,
  BLOCKS: 0x180,
  /** Of this image, of its last write, and of the parent the same two: 16 bytes each. */
  CREATED: 0x188,
  MODIFIED: 0x198,
  PARENT_CREATED: 0x1a8,
  PARENT_MODIFIED: 0x1b8,
} as const;
const Type = { DYNAMIC: 1, FIXED: 2, DIFFERENCING: 4 } as const;

/** Map entries that are no blocks: never written, and written as zeros. */
const ABSENT = 0xffffffff;
const ZERO = 0xfffffffe;

export function isVdi(start: Buffer): boolean {
  return start.length >= HEADER_BYTES && start.readUInt32LE(Field.SIGNATURE) === SIGNATURE;
}

export const openVdi: OpenFormat = async (store, neighbours) => {
  const header = await head(store, HEADER_BYTES);
  if (!isVdi(header)) throw refusal(store, "this is no VDI image");
  const version = header.readUInt32LE(Field.VERSION);
  if (version >>> 16 !== 1) throw refusal(store, `VDI version ${version >>> 16}.${version & 0xffff}; 1 is known`);
  const type = header.readUInt32LE(Field.TYPE);
  if (type !== Type.DYNAMIC && type !== Type.FIXED && type !== Type.DIFFERENCING) {
    throw refusal(store, `a VDI image of type ${type}; dynamic (1), fixed (2) and differencing (4) are known`);
  }
  const sectorBytes = header.readUInt32LE(Field.SECTOR_BYTES);
  if (sectorBytes !== 512) throw refusal(store, `sectors of ${sectorBytes} bytes; 512 are known`);
  // VirtualBox takes sizes that end inside a sector; the rest of that sector is nobody's.
  const sizeBytes = checkedSize(store, Math.floor(u64(header, Field.DISK_BYTES) / 512) * 512);
  const blockBytes = checkedPower(store, header.readUInt32LE(Field.BLOCK_BYTES), 4096, 1 << 28, "VDI blocks");
  const blocks = header.readUInt32LE(Field.BLOCKS);
  if (blocks < Math.ceil(sizeBytes / blockBytes)) throw refusal(store, `${blocks} blocks are too few for its disk`);
  const map = new VdiMap(new Pages(store), {
    blockBytes,
    mapAt: header.readUInt32LE(Field.MAP_OFFSET),
    dataAt: header.readUInt32LE(Field.DATA_OFFSET),
    extraBytes: header.readUInt32LE(Field.BLOCK_EXTRA),
  });
  const identity = identityAt(header, Field.CREATED);
  const parent = type === Type.DIFFERENCING ? await openVdiParent(store, header, neighbours) : undefined;
  return new MappedImage({ format: "vdi", name: store.name, sizeBytes, map, stores: [store], identity, parent });
};

/** Which image, in which state: the UUID of its creation and that of its last write. */
function identityAt(header: Buffer, at: number): string {
  return `${header.toString("hex", at, at + 16)}/${header.toString("hex", at + 16, at + 32)}`;
}

async function openVdiParent(store: Store, header: Buffer, neighbours: Neighbours): Promise<MappedImage> {
  const wanted = header.subarray(Field.PARENT_CREATED, Field.PARENT_CREATED + 16);
  const found: string[] = [];
  for (const name of await neighbours.names()) {
    if (!/\.vdi$/i.test(name)) continue;
    const file = await neighbours.file(name).catch(() => undefined);
    if (file === undefined) continue;
    try {
      const other = await head(file, HEADER_BYTES);
      if (isVdi(other) && other.subarray(Field.CREATED, Field.CREATED + 16).equals(wanted)) found.push(name);
    } finally {
      await file.close();
    }
  }
  return await openParent(store, neighbours, found, [identityAt(header, Field.PARENT_CREATED)]);
}

interface VdiLayout {
  blockBytes: number;
  mapAt: number;
  dataAt: number;
  /** Bytes before each block's own. */
  extraBytes: number;
}

class VdiMap implements ImageMap {
  readonly #pages: Pages;
  readonly #layout: VdiLayout;

  constructor(pages: Pages, layout: VdiLayout) {
    this.#pages = pages;
    this.#layout = layout;
  }

  async locate(offset: number, length: number): Promise<Run> {
    const { blockBytes, mapAt, dataAt, extraBytes } = this.#layout;
    const block = Math.floor(offset / blockBytes);
    const inside = offset % blockBytes;
    const run = Math.min(length, blockBytes - inside);
    const entry = (await this.#pages.bytes(mapAt + 4 * block, 4)).readUInt32LE();
    if (entry === ABSENT) return { length: run, kind: "absent" };
    if (entry === ZERO) return { length: run, kind: "zero" };
    const at = dataAt + entry * (blockBytes + extraBytes) + extraBytes + inside;
    return { length: run, kind: "stored", store: this.#pages.store, at };
  }
}
