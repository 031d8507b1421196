/**
 * What becomes of a guest's code on one vCPU, from its start on, for an image of it (code-image.ts): each block with the
 * bytes it was made of, also those that are written over later, and the regions. Kernels free the code of their start and
 * patch the rest, so what is there at the end is not what the next start needs.
 */

import type { Engine } from "../machine/code-store.ts";
import type { Block, Edges } from "./block.ts";
import {
  BlockField,
  type CodeParts,
  EdgeBit,
  forgetLinks,
  type SavedHandlers,
  type SavedRegion,
} from "./code-image.ts";
import { type ModuleCode, packModules } from "./module-code.ts";
import { BlockHeader, Record } from "./record.ts";
import { CHAIN_LOOKUP } from "./record-context.ts";
import type { Member, Region } from "./regions.ts";

/**
 * Where recording ends: a system that has booted, and runs its programs. Debian's kernel comes to its first program with
 * 70,000 blocks and 2 MiB of regions; with fio in it, at work on a disk, it is 120,000 and 4.
 */
const MOST_BLOCKS = 200_000;
const MOST_REGION_BYTES = 16 * 2 ** 20;

interface Recorded {
  readonly block: Block;
  /** The bytes that it was made of are there from `at` on. */
  readonly code: Uint8Array;
  readonly at: number;
  readonly kept: readonly [low: number, high: number];
  /** Its records, with the header, from when it was written over. */
  records: Uint8Array | undefined;
  /** In the image. */
  number: number;
}

interface RecordedRegion {
  readonly region: Region;
  readonly module: ModuleCode;
}

export class Recording {
  readonly #memory: Uint8Array;
  readonly #blocks = new Map<Block, Recorded>();
  /** The older ones first, without those that newer ones contain. */
  readonly #regions = new Set<RecordedRegion>();
  /** The newest one of each block. */
  readonly #newest = new Map<Block, RecordedRegion>();
  /** Of the image that this one goes on from, those that were not taken into use; the newest one last. */
  readonly #unused: RecordedRegion[] = [];
  /** The records of blocks that came from an image, with the header, from when they were written over. */
  readonly #goneRecords = new Map<Block, Uint8Array>();
  /** Where the first record was that came from no image. */
  readonly #knownEnd: number;
  #blockCount: number;
  #regionBytes: number;
  #newBlocks = 0;
  #newRegions = 0;

  /** `before`: what the image has already that this one goes on from. */
  constructor(view: DataView, before = { blocks: 0, regionBytes: 0, end: 0 }) {
    this.#memory = new Uint8Array(view.buffer);
    this.#knownEnd = before.end;
    this.#blockCount = before.blocks;
    this.#regionBytes = before.regionBytes;
  }

  /** What was not in an image before, or not for this engine. */
  get news(): { blocks: number; regions: number } {
    return { blocks: this.#newBlocks, regions: this.#newRegions };
  }

  get isFull(): boolean {
    return this.#blockCount >= MOST_BLOCKS || this.#regionBytes >= MOST_REGION_BYTES;
  }

  /** The guest has ended: a block of the image that this one goes on from. The rest is as in {@link decoded}. */
  known(block: Block, kept: readonly [low: number, high: number], code: Uint8Array, at: number): void {
    this.#blocks.set(block, { block, code, at, kept, records: this.#goneRecords.get(block), number: -1 });
  }

  /** Regions of that image: as they are taken into use, or, `isUnused`, those that were not. */
  installed(region: Region, module: ModuleCode, isUnused = false): void {
    if (isUnused) this.#unused.unshift({ region, module });
    else this.#add({ region, module });
    if (module.isRefused) this.#newRegions += 1;
  }

  /** `kept`: see `BlockField.keptLow`. A block in two pages is not worth the trouble. */
  decoded(block: Block, kept: readonly [low: number, high: number]): void {
    if (block.secondPage >= 0 || this.isFull) return;
    const code = this.#memory.slice(block.host, block.host + block.length);
    this.#blocks.set(block, { block, code, at: 0, kept, records: undefined, number: -1 });
    this.#blockCount += 1;
    this.#newBlocks += 1;
  }

  /** Its records are about to be made unusable. */
  gone(block: Block): void {
    const recorded = this.#blocks.get(block);
    if (recorded === undefined && block.record >= this.#knownEnd) return;
    const start = block.record - BlockHeader.size;
    const records = this.#memory.slice(start, block.record + block.count * Record.size);
    if (recorded === undefined) this.#goneRecords.set(block, records);
    else recorded.records = records;
  }

  compiled(region: Region, module: ModuleCode): void {
    if (this.isFull) return;
    if (region.members.some(({ block }) => block.record >= this.#knownEnd && !this.#blocks.has(block))) return;
    this.#regionBytes += module.bytes.length;
    this.#newRegions += 1;
    this.#add({ region, module });
  }

  /** Regions grow again and again: what a new one contains all of would fill the recording, and is of no use. */
  #add(recorded: RecordedRegion): void {
    const blocks = new Set(recorded.region.members.map(({ block }) => block));
    const older = new Set<RecordedRegion>();
    for (const block of blocks) {
      const before = this.#newest.get(block);
      if (before !== undefined) older.add(before);
      this.#newest.set(block, recorded);
    }
    for (const each of older) {
      if (!each.region.members.every(({ block }) => blocks.has(block))) continue;
      this.#regions.delete(each);
      this.#regionBytes -= each.module.bytes.length;
    }
    this.#regions.add(recorded);
  }

  /** The image, of what was recorded and records from `arena` to `end`. */
  image(
    [arena, end]: readonly [number, number],
    [handlers, handlerModules]: readonly [SavedHandlers, Uint8Array<ArrayBuffer>],
    engine: Engine | undefined,
  ): CodeParts {
    const records = this.#memory.slice(arena, end);
    const view = new DataView(records.buffer);
    const all = [...this.#blocks.values()].sort((one, other) => one.block.host - other.block.host);
    const blocks = new Uint32Array(all.length * BlockField.fields);
    const code = new Uint8Array(all.reduce((sum, { block }) => sum + block.length, 0));
    let at = 0;
    for (const [number, recorded] of all.entries()) {
      const { block, kept } = recorded;
      const { host, mode, record, length, count, edges } = block;
      recorded.number = number;
      if (recorded.records !== undefined) records.set(recorded.records, record - BlockHeader.size - arena);
      forgetLinks(view, record - arena, count, CHAIN_LOOKUP);
      const ways = Object.keys(edges).reduce((bits, way) => bits | EdgeBit[way as keyof Edges], 0);
      const taken = edges.taken === undefined ? 0 : edges.taken - (host + length);
      blocks.set([host, mode, record, length, count, ways, taken, ...kept, at], number * BlockField.fields);
      code.set(recorded.code.subarray(recorded.at, recorded.at + length), at);
      at += length;
    }
    const { regions, modules } = this.#regionsByAge(engine);
    return { arena, end, handlers, regions, blocks, records, code, handlerModules, regionModules: modules };
  }

  /**
   * A region that was compiled again contains what the older ones had. Where it has other blocks, as of code that was patched in
   * between, both are there, the newer one first.
   */
  #regionsByAge(engine: Engine | undefined): { regions: SavedRegion[]; modules: Uint8Array<ArrayBuffer> } {
    const taken = new Set<Recorded>();
    const all = [...this.#unused, ...this.#regions].map(({ region, module }) => {
      return { region, module, members: region.members.map(({ block }) => this.#blocks.get(block)!) };
    });
    const newest = all.reverse().filter(({ members }) => {
      if (members.every((member) => taken.has(member))) return false;
      for (const member of members) taken.add(member);
      return true;
    });
    const { sizes, packed } = packModules(
      newest.map(({ module }) => module),
      engine,
    );
    let at = 0;
    const regions = newest.map(({ region, members }, index): SavedRegion => {
      const numbers = (some: readonly Member[]) =>
        some.map(({ block }) => region.members.findIndex((member) => member.block === block));
      const saved = {
        slot: region.slot,
        members: members.map(({ number }, index) => [number, region.members[index]!.distance] as const),
        seeds: numbers(region.seeds).map((index, seed) => [index, region.seeds[seed]!.isLoose ? 1 : 0] as const),
        entries: numbers(region.entries),
        at,
        ...sizes[index]!,
      };
      at += saved.bytes + saved.engine;
      return saved;
    });
    return { regions, modules: packed };
  }
}
