/**
 * The compiled regions that are entered at present. Together they may take `CODE_LIMITS.regionBytes`; those in which the guest was
 * not found for longest go first. Where a guest is found, each time that its budget ends, is all that is known of a
 * region's use: counting would have to be done by the code that runs. A region that goes although it is of use is
 * found again, and compiled again.
 */

import type { Block } from "./blocks.ts";
import type { Handlers } from "./handlers.ts";
import { CODE_LIMITS } from "./limits.ts";
import { Record } from "./record.ts";

/** Compiled code for a block and others that it leads to. */
export interface Region {
  readonly head: Block;
  readonly members: readonly Block[];
  /** Its handler, and the one that it stands in for. */
  readonly slot: number;
  readonly original: number;
  readonly bytes: number;
}

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
  /** By the blocks that they contain. */
  readonly #byBlock = new Map<Block, Set<Region>>();
  /** From the one that was not seen for longest on. */
  readonly #order = new Set<Region>();
  #bytes = 0;

  constructor(view: DataView, handlers: Handlers) {
    this.#view = view;
    this.#handlers = handlers;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Takes a region's code, of so many bytes, into use, and makes room for it. */
  enter(head: Block, members: readonly Block[], slot: number, bytes: number): void {
    const original = this.#view.getUint32(head.record + Record.handler, true);
    const region: Region = { head, members, slot, original, bytes: residentBytes(bytes) };
    head.region = region;
    this.#view.setUint32(head.record + Record.handler, slot, true);
    for (const member of members) {
      const regions = this.#byBlock.get(member) ?? new Set();
      this.#byBlock.set(member, regions.add(region));
    }
    this.#order.add(region);
    this.#bytes += region.bytes;
    for (const oldest of this.#order) {
      if (this.#bytes <= CODE_LIMITS.regionBytes) break;
      this.#leave(oldest);
    }
  }

  has(block: Block): boolean {
    return this.#byBlock.has(block);
  }

  /** The guest was found in this block. */
  seen(block: Block): void {
    for (const region of this.#byBlock.get(block) ?? []) {
      this.#order.delete(region);
      this.#order.add(region);
    }
  }

  blockGone(block: Block): void {
    for (const region of this.#byBlock.get(block) ?? []) this.#leave(region);
  }

  clear(): void {
    for (const region of this.#order) this.#leave(region);
  }

  /** Goes back to the interpreter at a region's head. */
  #leave(region: Region): void {
    const { head, members, slot, original, bytes } = region;
    this.#view.setUint32(head.record + Record.handler, original, true);
    head.region = undefined;
    for (const member of members) {
      const regions = this.#byBlock.get(member);
      regions?.delete(region);
      if (regions?.size === 0) this.#byBlock.delete(member);
    }
    this.#order.delete(region);
    this.#bytes -= bytes;
    this.#handlers.uninstall(slot);
  }
}
