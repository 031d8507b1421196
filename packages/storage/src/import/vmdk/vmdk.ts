/** VMware's VMDK: one file or many, sparse, flat or packed. Left out: ESX's own sparse kinds. */

import type { Store } from "../../image.ts";
import { checkedSize, head, type OpenFormat, refusal } from "../format.ts";
import { type ImageMap, MappedImage, type Run } from "../mapped-image.ts";
import { type Neighbours, openParent } from "../parents.ts";
import {
  type DescribedExtent,
  type Descriptor,
  isDescriptor,
  MAX_DESCRIPTOR_BYTES,
  parseDescriptor,
} from "./descriptor.ts";
import { isSparse, readSparseHeader, SparseMap } from "./sparse.ts";

/** One part of the disk. */
interface Part {
  begin: number;
  sizeBytes: number;
  map: ImageMap;
}

export function isVmdk(start: Buffer): boolean {
  return isSparse(start) || isDescriptor(start) || esxKind(start) !== undefined;
}

export const openVmdk: OpenFormat = async (store, neighbours) => {
  const start = await head(store, 512);
  if (isSparse(start)) return await openSparse(store, neighbours);
  const esx = esxKind(start);
  if (esx !== undefined) {
    throw refusal(store, `ESX's own format ${esx} is not known here: vmkfstools -i or ovftool makes another of it`);
  }
  if (!isDescriptor(start)) throw refusal(store, "this is no VMDK image");
  if (store.sizeBytes > MAX_DESCRIPTOR_BYTES) throw refusal(store, "its descriptor is too large");
  const text = (await head(store, MAX_DESCRIPTOR_BYTES)).toString("utf8");
  return await openParts(store, parseDescriptor(store, text), neighbours);
};

/** One file with a descriptor inside, which says nothing but who it is and whether there is a parent. */
async function openSparse(store: Store, neighbours: Neighbours) {
  const header = await readSparseHeader(store);
  const { at, length } = header.descriptor;
  let descriptor: Descriptor | undefined;
  if (at > 0 && length > 0 && length <= MAX_DESCRIPTOR_BYTES && at + length <= store.sizeBytes) {
    const text = Buffer.alloc(length);
    await store.read(at, [text]);
    descriptor = parseDescriptor(store, text.toString("utf8").split("\0", 1)[0]!);
  }
  const map = new SparseMap(store, header);
  const { sizeBytes } = header;
  const parent = await parentOf(store, descriptor, neighbours);
  const { identity } = descriptor ?? {};
  return new MappedImage({ format: "vmdk", name: store.name, sizeBytes, map, stores: [store], identity, parent });
}

async function parentOf(store: Store, descriptor: Descriptor | undefined, neighbours: Neighbours) {
  const parent = descriptor?.parent;
  return parent && (await openParent(store, neighbours, [parent.path], [parent.identity]));
}

async function openParts(store: Store, descriptor: Descriptor, neighbours: Neighbours) {
  const parts: Part[] = [];
  const files = new Map<string, Store>();
  try {
    let begin = 0;
    for (const extent of descriptor.extents) {
      parts.push({ begin, sizeBytes: extent.sizeBytes, map: await openPart(extent, files, neighbours) });
      begin += extent.sizeBytes;
    }
    const map = new JoinedMap(parts);
    const stores = [store, ...files.values()];
    const sizeBytes = checkedSize(store, begin);
    const parent = await parentOf(store, descriptor, neighbours);
    const { identity } = descriptor;
    return new MappedImage({ format: "vmdk", name: store.name, sizeBytes, map, stores, identity, parent });
  } catch (error) {
    for (const file of files.values()) await file.close();
    throw error;
  }
}

async function openPart(extent: DescribedExtent, files: Map<string, Store>, neighbours: Neighbours): Promise<ImageMap> {
  if (extent.kind === "zero") return { locate: async (_, length) => ({ length, kind: "zero" }) };
  const file = files.get(extent.file) ?? (await neighbours.file(extent.file));
  files.set(extent.file, file);
  if (extent.kind === "sparse") {
    const header = await readSparseHeader(file);
    if (header.sizeBytes < extent.sizeBytes) {
      throw refusal(file, `it holds ${header.sizeBytes} bytes of the disk; its descriptor says ${extent.sizeBytes}`);
    }
    return new SparseMap(file, header);
  }
  if (extent.at + extent.sizeBytes > file.sizeBytes) {
    throw refusal(file, `it has ${file.sizeBytes} bytes; its descriptor says ${extent.at + extent.sizeBytes}`);
  }
  return {
    locate: async (offset, length) => ({ length, kind: "stored", store: file, at: extent.at + offset }),
  };
}

class JoinedMap implements ImageMap {
  readonly #parts: readonly Part[];

  constructor(parts: readonly Part[]) {
    this.#parts = parts;
  }

  async locate(offset: number, length: number): Promise<Run> {
    const part = this.#parts.findLast(({ begin }) => begin <= offset)!;
    const inside = offset - part.begin;
    return await part.map.locate(inside, Math.min(length, part.sizeBytes - inside));
  }
}

function esxKind(start: Buffer): string | undefined {
  if (start.toString("latin1", 0, 4) === "COWD") return "vmfsSparse";
  return start.length >= 8 && start.readBigUInt64LE() === 0xcafebaben ? "seSparse" : undefined;
}
