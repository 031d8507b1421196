/**
 * A vCPU's translations as bytes, for the next guest that runs the same code: records, handlers and compiled regions as they
 * were, with the guest's bytes that each block was made of. They name each other by addresses and slots, so that an image
 * fits only where the vCPU's state lies as it did then: machine/code-store.ts.
 *
 * In the bytes: the header's length in 8 bytes, the header as JSON, and the parts that it names, each at a multiple of 8.
 */

import type { SavedSizes } from "./module-code.ts";
import { BlockHeader, Record } from "./record.ts";

/** The fields of a block, 32 bits each. */
export const BlockField = {
  host: 0,
  mode: 1,
  record: 2,
  length: 3,
  count: 4,
  /** Which of its `Edges` it has: {@link EdgeBit}. All but `taken` lead to its end. */
  edges: 5,
  /** How far from its end `taken` is, with a sign: it may be in front of all memory. */
  taken: 6,
  /** Bit n: the nth instruction is one that TypeScript does, always or sometimes. */
  keptLow: 7,
  keptHigh: 8,
  /** Where its bytes are in `code`. */
  code: 9,
  fields: 10,
} as const;

export const EdgeBit = { taken: 1, fallThrough: 2, returns: 4 } as const;

/** A compiled region. Members are blocks by number with their distances; seeds and entries are members by number, as `Region` has them. */
export interface SavedRegion extends SavedSizes {
  readonly slot: number;
  readonly members: readonly (readonly [block: number, distance: number])[];
  readonly seeds: readonly (readonly [member: number, isLoose: 0 | 1])[];
  readonly entries: readonly number[];
  /** Where its module is in `regions`. */
  readonly at: number;
}

export interface SavedHandlers {
  /** Their modules, which lie one behind the other, and how many handlers each has. */
  readonly modules: readonly (SavedSizes & { readonly handlers: number })[];
  /** Slots by the keys of shapes, in the order of the modules. */
  readonly slots: readonly (readonly [key: string, slot: number])[];
  /** Known shapes: the form's number, the number of `numberOf`, the slot, whether the instruction is kept. */
  readonly known: readonly (readonly [form: number, number: number, slot: number, isKept: 0 | 1])[];
  readonly nextSlot: number;
}

interface Header {
  /** How many images there were of this code, one grown from the other, until this one. */
  readonly generation: number;
  /** Where records begin, and how far they went. */
  readonly arena: number;
  readonly end: number;
  readonly handlers: SavedHandlers;
  readonly regions: readonly SavedRegion[];
  /** Offset and size of each part, behind the header. */
  readonly parts: { readonly [name in Part]: readonly [offset: number, bytes: number] };
}

const PARTS = ["records", "blocks", "code", "handlers", "regions"] as const;
type Part = (typeof PARTS)[number];

export interface CodeImage extends Omit<Header, "parts"> {
  /** Blocks by number, {@link BlockField.fields} words each, in the order of their places. */
  readonly blocks: Uint32Array;
  readonly records: Uint8Array;
  readonly code: Uint8Array;
  readonly handlerModules: Uint8Array<ArrayBuffer>;
  readonly regionModules: Uint8Array<ArrayBuffer>;
}

/** All that a recording makes. */
export type CodeParts = Omit<CodeImage, "generation">;

export function encodeImage(image: CodeImage): Uint8Array {
  const { blocks, records, code, handlerModules, regionModules, ...rest } = image;
  const bytes: { readonly [name in Part]: Uint8Array } = {
    records,
    blocks: new Uint8Array(blocks.buffer, blocks.byteOffset, blocks.byteLength),
    code,
    handlers: handlerModules,
    regions: regionModules,
  };
  let size = 0;
  const parts = Object.fromEntries(
    PARTS.map((name) => {
      const offset = size;
      size = aligned(size + bytes[name].length);
      return [name, [offset, bytes[name].length]];
    }),
  ) as unknown as Header["parts"];
  const header = new TextEncoder().encode(JSON.stringify({ ...rest, parts } satisfies Header));
  const body = aligned(8 + header.length);
  const out = new Uint8Array(body + size);
  new DataView(out.buffer).setUint32(0, header.length, true);
  out.set(header, 8);
  for (const name of PARTS) out.set(bytes[name], body + parts[name][0]);
  return out;
}

/** The store answers for the bytes: they are what {@link encodeImage} made of the same version. */
export function decodeImage(bytes: Uint8Array<ArrayBuffer>): CodeImage {
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  const { parts, ...rest }: Header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
  const body = aligned(8 + length);
  const part = (name: Part) => bytes.subarray(body + parts[name][0], body + parts[name][0] + parts[name][1]);
  // Records are most of it, and soon in the guest's memory. The rest is kept for as long as the guest, without them. What
  // slice() gives is no copy where the store's bytes are a Buffer of Node's.
  return {
    ...rest,
    records: part("records"),
    blocks: new Uint32Array(new Uint8Array(part("blocks")).buffer),
    code: new Uint8Array(part("code")),
    handlerModules: new Uint8Array(part("handlers")),
    regionModules: new Uint8Array(part("regions")),
  };
}

const aligned = (size: number): number => Math.ceil(size / 8) * 8;

/** Makes a block's records what they were before anything led to them or from them. */
export function forgetLinks(records: DataView, at: number, count: number, alwaysLookedUp: number): void {
  const own = records.getUint32(at + BlockHeader.handler, true);
  records.setUint32(at + Record.handler, own, true);
  const last = at + (count - 1) * Record.size;
  for (const field of [Record.taken, Record.fallThrough]) {
    if (records.getUint32(last + field, true) !== alwaysLookedUp) records.setUint32(last + field, 0, true);
  }
}
