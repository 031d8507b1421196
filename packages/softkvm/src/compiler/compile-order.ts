/** Compiles a region that was ordered (order.ts), in a thread beside the vCPU's. */

import { Mode } from "../cpu/layout.ts";
import { Decoder } from "../decode/decoder.ts";
import { type CodeSize, Instruction, Status } from "../decode/instruction.ts";
import type { Block, Edges } from "../interpreter/block.ts";
import type { Member } from "../interpreter/regions.ts";
import type { CompiledRegion, RegionOrder } from "./compile-thread.ts";
import { firstCall } from "./first-call.ts";
import { writeRegions } from "./module.ts";
import { FIELDS, Field } from "./order.ts";

export type { CompiledRegion, RegionOrder };

/** Undefined where the bytes are not those of the blocks any more: another vCPU wrote them while they were copied. */
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
