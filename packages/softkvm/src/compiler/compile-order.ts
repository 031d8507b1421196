/**
 * Compiles a region that was ordered (order.ts), in a thread beside the vCPU's. Nobody waits, so that the engine's optimizing compiler
 * does it at once: by its baseline compiler a kernel's regions, which run once a request, would be slow for thousands of requests. The
 * bytes do not say so, as who gets them from an image compiles them in its own thread.
 */

import { Decoder } from "../decode/decoder.ts";
import type { Instruction } from "../decode/instruction.ts";
import type { Block, Edges } from "../interpreter/block.ts";
import { decodeBlock } from "../interpreter/decode-block.ts";
import type { Member } from "../interpreter/regions.ts";
import type { CompiledRegion, RegionOrder } from "./compile-thread.ts";
import { firstCall } from "./first-call.ts";
import { InstructionPool } from "./instruction-pool.ts";
import { writeRegions } from "./module.ts";
import { FIELDS, Field } from "./order.ts";

export type { CompiledRegion, RegionOrder };

const pool = new InstructionPool();

/** Undefined where the bytes are not those of the blocks any more: another vCPU wrote them while they were copied. */
export function compileOrder({ base, slot, features, members, seeds, code }: RegionOrder): CompiledRegion | undefined {
  const all: Member[] = [];
  const instructions = new Map<Block, readonly Instruction[]>();
  const decoder = decoderFor(features);
  pool.reset();
  let at = 0;
  for (let first = 0; first < members.length; first += FIELDS) {
    const block = blockOf(members, first);
    const decoded = decodeBlock(decoder, code.subarray(at, at + block.length), block.mode, pool.take);
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
  const { module: written, entries } = writeRegions([plan], base, instructions);
  const module = new WebAssembly.Module(written.encode({ optimized: true }));
  firstCall(module, slot);
  const numbers = entries[0]!.map(({ block }) => all.findIndex((member) => member.block === block));
  return { bytes: written.encode(), module, entries: numbers };
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

let lastDecoder: { readonly features: string; readonly decoder: Decoder } | undefined;

/** Making one takes a while, and a machine's vCPUs are mostly alike. */
function decoderFor(features: RegionOrder["features"]): Decoder {
  const key = features?.join() ?? "all";
  if (lastDecoder?.features !== key) {
    lastDecoder = { features: key, decoder: new Decoder(features && new Set(features)) };
  }
  return lastDecoder.decoder;
}
