/**
 * VirtualBox's VDI: a header, a map of u32 block numbers, blocks. After VirtualBox's VDICore.h; QEMU's block/vdi.c agrees.
 * Little-endian. Left out: differencing images, which need their parent.
 */

import { checkedPower, checkedSize, head, type OpenFormat, refusal, u64 } from "./format.ts";
import { type ImageMap, MappedImage, type Run } from "./mapped-image.ts";
import { Pages } from "./pages.ts";

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
} as const;
const Type = { DYNAMIC: 1, FIXED: 2 } as const;

/** Map entries that are no blocks: never written, and written as zeros. */
const ABSENT = 0xffffffff;
const ZERO = 0xfffffffe;

export function isVdi(start: Buffer): boolean {
  return start.length >= HEADER_BYTES && start.readUInt32LE(Field.SIGNATURE) === SIGNATURE;
}

export const openVdi: OpenFormat = async (store) => {
  const header = await head(store, HEADER_BYTES);
  if (!isVdi(header)) throw refusal(store, "this is no VDI image");
  const version = header.readUInt32LE(Field.VERSION);
  if (version >>> 16 !== 1) throw refusal(store, `VDI version ${version >>> 16}.${version & 0xffff}; 1 is known`);
  const type = header.readUInt32LE(Field.TYPE);
  if (type !== Type.DYNAMIC && type !== Type.FIXED) {
    const merge = "VBoxManage clonemedium makes a whole image of it and its parents";
    throw refusal(store, `a VDI image of type ${type} is a part of a disk: ${merge}`);
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
  return new MappedImage({ format: "vdi", name: store.name, sizeBytes, map, stores: [store] });
};

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
