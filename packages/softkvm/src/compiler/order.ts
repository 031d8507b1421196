/**
 * A region to be compiled by another thread: all that writing it takes, as what threads can send each other. The blocks' bytes are
 * a copy, so that what the guest writes meanwhile makes no difference; whether the region is still that of the guest's code is
 * asked when it comes back.
 */

import { Mode } from "../cpu/layout.ts";
import { Decoder } from "../decode/decoder.ts";
import { type CodeSize, Instruction, Status } from "../decode/instruction.ts";
import type { Block, Edges } from "../interpreter/block.ts";
import type { Member } from "../interpreter/regions.ts";
import { firstCall } from "./first-call.ts";
import { writeRegions } from "./module.ts";
import type { RegionPlan } from "./region.ts";

export interface RegionOrder {
  /** Where the vCPU's state is in linear memory. */
  readonly base: number;
  readonly slot: number;
  /** Which instructions there are, by the decoder's features; undefined: all. */
  readonly features: readonly string[] | undefined;
  /** {@link Field} of each block. */
  readonly members: Float64Array<ArrayBuffer>;
  /** Pairs: the number of a member, and whether it is loose. */
  readonly seeds: Int32Array<ArrayBuffer>;
  /** The blocks' bytes, one behind the other. */
  readonly code: Uint8Array<ArrayBuffer>;
}

export interface CompiledRegion {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly module: WebAssembly.Module;
  /** By the numbers of members. */
  readonly entries: readonly number[];
}

/** Places are whole numbers of up to 33 bits; NaN where there is none. */
const Field = {
  host: 0,
  length: 1,
  mode: 2,
  record: 3,
  count: 4,
  taken: 5,
  fallThrough: 6,
  returns: 7,
  distance: 8,
} as const;
const FIELDS = 9;

export function orderOf(
  { slot, seeds, members }: RegionPlan,
  base: number,
  blocks: { readonly features: readonly string[] | undefined; codeOf(block: Block): Uint8Array },
): RegionOrder {
  const fields = new Float64Array(members.length * FIELDS);
  const code = new Uint8Array(members.reduce((sum, { block }) => sum + block.length, 0));
  let at = 0;
  for (const [index, { block, distance }] of members.entries()) {
    const { host, length, mode, record, count, edges } = block;
    const { taken = Number.NaN, fallThrough = Number.NaN, returns = Number.NaN } = edges;
    fields.set([host, length, mode, record, count, taken, fallThrough, returns, distance], index * FIELDS);
    code.set(blocks.codeOf(block), at);
    at += length;
  }
  const numberOf = (block: Block) => members.findIndex((member) => member.block === block);
  const pairs = seeds.flatMap(({ block, isLoose }) => [numberOf(block), isLoose ? 1 : 0]);
  const { features } = blocks;
  return { base, slot, features, members: fields, seeds: Int32Array.from(pairs), code };
}

/** Compiles it. Undefined where the bytes are not those of the blocks any more: another vCPU wrote them while they were copied. */
export function compileOrder({ base, slot, features, members, seeds, code }: RegionOrder): CompiledRegion | undefined {
  const all: Member[] = [];
  const instructions = new Map<Block, readonly Instruction[]>();
  const decoder = decoderFor(features);
  let at = 0;
  for (let first = 0; first < members.length; first += FIELDS) {
    const block = blockOf(members, first);
    const decoded = decode(decoder, code.subarray(at, at + block.length), block.mode);
    if (decoded === undefined) return undefined;
    instructions.set(block, decoded);
    all.push({ block, distance: members[first + Field.distance]! });
    at += block.length;
  }
  const plan = {
    slot,
    members: all,
    seeds: Array.from({ length: seeds.length / 2 }, (_, index) => {
      return { ...all[seeds[2 * index]!]!, isLoose: seeds[2 * index + 1] === 1 };
    }),
  };
  const { bytes, entries } = writeRegions([plan], base, (block) => instructions.get(block)!);
  const module = new WebAssembly.Module(bytes);
  firstCall(module, slot);
  const numbers = entries[0]!.map(({ block }) => all.findIndex((member) => member.block === block));
  return { bytes, module, entries: numbers };
}

function blockOf(members: Float64Array, first: number): Block {
  const field = (index: number) => members[first + index]!;
  const edges: { -readonly [way in keyof Edges]: Edges[way] } = {};
  for (const way of ["taken", "fallThrough", "returns"] as const) {
    const to = field(Field[way]);
    if (!Number.isNaN(to)) edges[way] = to;
  }
  return {
    host: field(Field.host),
    length: field(Field.length),
    mode: field(Field.mode),
    record: field(Field.record),
    count: field(Field.count),
    secondPage: -1,
    edges,
    region: undefined,
  };
}

function decode(decoder: Decoder, code: Uint8Array, mode: number): Instruction[] | undefined {
  const bits = ([16, 32, 64] as const satisfies readonly CodeSize[])[mode & Mode.BITS]!;
  const instructions: Instruction[] = [];
  for (let at = 0; at < code.length; ) {
    const instruction = new Instruction();
    if (decoder.decode(code, at, code.length, bits, instruction) !== Status.OK) return undefined;
    instructions.push(instruction);
    at += instruction.length;
  }
  return instructions;
}

let lastDecoder: { readonly features: string; readonly decoder: Decoder } | undefined;

/** Making one takes a while, and a machine's vCPUs are mostly alike. */
function decoderFor(features: RegionOrder["features"]): Decoder {
  const key = features?.join() ?? "all";
  if (lastDecoder?.features !== key) {
    lastDecoder = { features: key, decoder: new Decoder(features && new Set(features)) };
  }
  return lastDecoder.decoder;
}
