/**
 * The compiled regions that are entered at present. Together they may take `CODE_LIMITS.regionBytes`; those in which the guest was
 * not found for longest go first. Where a guest is found, each time that its budget ends, is all that is known of a
 * region's use: counting would have to be done by the code that runs. A region that goes although it is of use is
 * found again, and compiled again.
 */

import type { Block } from "./block.ts";
import { type Handlers, Slot } from "./handlers.ts";
import { CODE_LIMITS } from "./limits.ts";
import { BlockHeader, Record } from "./record.ts";

/** A block of a region, and the distance in virtual addresses from the region's base to it. */
export interface Member {
  readonly block: Block;
  readonly distance: number;
}

/** A block for whose sake a region is compiled. */
export interface Seed extends Member {
  /** The region need not be entered here where a loop around is entered: the guest was found in the block, whatever led there. */
  readonly isLoose?: boolean;
}

/** Compiled code for blocks and others that they lead to. */
export interface Region {
  /** Its handler. */
  readonly slot: number;
  /** The blocks for whose sake it was compiled. */
  readonly seeds: readonly Seed[];
  readonly members: readonly Member[];
  /** Where it is entered, by the entries' numbers, from 1 on. */
  readonly entries: readonly Member[];
}

/**
 * How often regions go to a block of the interpreter's, or of another region's, until they ask to take it in. A region is
 * compiled anew then, which takes as long as some thousands of such ways: with 50 and 500 a boot of Linux spent more than a
 * quarter of its time on that.
 */
const Patience = { INTERPRETED: 5000, COMPILED: 20000 } as const;

/** What a module keeps resident, whatever is in it, and what V8 makes of a byte of WebAssembly. */
const MODULE_BYTES = 16 * 2 ** 10;
const EXPANSION = 6;

/** What `bytes` of WebAssembly, in a module of their own, take once they run. */
export function residentBytes(bytes: number): number {
  return MODULE_BYTES + EXPANSION * bytes;
}

export class Regions {
  readonly #view: DataView;
  readonly #handlers: Handlers;
  readonly #bySlot = new Map<number, Region>();
  /** What each takes, from the one that was not seen for longest on. */
  readonly #order = new Map<Region, number>();
  #bytes = 0;

  readonly #runs: number;

  /** `runs`: how often the interpreter runs a block until it tells; 0 for never. */
  constructor(view: DataView, handlers: Handlers, runs: number) {
    this.#view = view;
    this.#handlers = handlers;
    this.#runs = runs;
  }

  get bytes(): number {
    return this.#bytes;
  }

  at(slot: number): Region | undefined {
    return this.#bySlot.get(slot);
  }

  /** Takes a region's code, of so many bytes, into use, and makes room for it. A block is in one region only. */
  enter(region: Region, bytes: number): void {
    for (const { block } of region.members) {
      if (block.region !== undefined) this.#leave(block.region);
      block.region = region;
    }
    for (const [index, { block, distance }] of region.entries.entries()) {
      this.#view.setUint32(block.record + Record.handler, region.slot, true);
      this.#view.setUint32(block.record + BlockHeader.entry, index + 1, true);
      this.#view.setInt32(block.record + BlockHeader.distance, distance, true);
      this.waitAgain(block);
    }
    this.#bySlot.set(region.slot, region);
    this.#order.set(region, residentBytes(bytes));
    this.#bytes += residentBytes(bytes);
    for (const oldest of this.#order.keys()) {
      if (this.#bytes <= CODE_LIMITS.regionBytes) break;
      this.#leave(oldest);
    }
  }

  /** Regions shall go to this block some more before they ask to take it in; `forEver`: they never do. */
  waitAgain({ record, region }: Block, forEver = false): void {
    const times = region === undefined ? Patience.INTERPRETED : Patience.COMPILED;
    this.#view.setInt32(record + BlockHeader.patience, forEver ? 0x7fffffff : times, true);
  }

  /** The interpreter has a block, and tells when it has run it so many times; 0: never. */
  interpret({ record }: Block, runs: number): void {
    const handler = runs > 0 ? Slot.COUNT : this.#view.getUint32(record + BlockHeader.handler, true);
    this.#view.setUint32(record + Record.handler, handler, true);
    this.#view.setInt32(record + BlockHeader.runs, runs, true);
  }

  /** The guest was found in this block. */
  seen({ region }: Block): void {
    const bytes = region && this.#order.get(region);
    if (bytes === undefined) return;
    this.#order.delete(region!);
    this.#order.set(region!, bytes);
  }

  blockGone({ region }: Block): void {
    if (region !== undefined) this.#leave(region);
  }

  clear(): void {
    for (const region of this.#order.keys()) this.#leave(region);
  }

  /** Goes back to the interpreter where this region is entered. */
  #leave(region: Region): void {
    for (const { block } of region.members) if (block.region === region) block.region = undefined;
    for (const { block } of region.entries) {
      this.interpret(block, this.#runs);
      this.waitAgain(block);
    }
    this.#bySlot.delete(region.slot);
    this.#bytes -= this.#order.get(region)!;
    this.#order.delete(region);
    this.#handlers.uninstall(region.slot);
  }
}
