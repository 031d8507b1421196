/**
 * Translations from an image (code-image.ts), taken into use as the guest comes by. What counts is what memory holds then: a
 * block is taken where its bytes are those that it was made of, from a page that is watched already, and a region where all
 * its blocks are in use. From there on nothing tells them from what was translated now.
 */

import type { Block } from "./block.ts";
import { BlockField, type CodeImage, EdgeBit, type SavedRegion } from "./code-image.ts";
import type { Region } from "./regions.ts";

const PAGE = 4096;

/** Where blocks and regions are taken into use: `Blocks`. */
export interface CodeUser {
  at(host: number, mode: number): Block | undefined;
  /** From now on what is written to the page is noticed. */
  watch(page: number): void;
  unwatchEmpty(page: number): void;
  /** `kept`: as `BlockField.keptLow`. */
  adopt(block: Block, kept: readonly [low: number, high: number]): void;
  /** Blocks that are in use by now: records of one page can lead to each other. */
  link(blocks: readonly Block[]): void;
  install(region: Region, module: Uint8Array<ArrayBuffer>): void;
}

/** What is needed of an image for as long as the guest is there. */
type KnownParts = Pick<CodeImage, "blocks" | "code" | "regions" | "regionModules">;

interface Waiting {
  readonly saved: SavedRegion;
  /** How many of its blocks are not in use yet. */
  missing: number;
}

export class KnownCode {
  readonly #image: KnownParts;
  readonly #memory: Uint8Array;
  readonly #user: CodeUser;
  /** By page: the numbers of its blocks, and whether it was looked through. */
  readonly #pages = new Map<number, { first: number; end: number; seen: boolean }>();
  /** By number, those in use. */
  readonly #blocks: (Block | undefined)[];
  readonly #regions: (Waiting | undefined)[];
  /** Pages that regions go to from those that were looked through. */
  readonly #next: number[] = [];
  #used = 0;

  constructor(image: KnownParts, memory: Uint8Array, user: CodeUser) {
    this.#image = image;
    this.#memory = memory;
    this.#user = user;
    const count = image.blocks.length / BlockField.fields;
    this.#blocks = new Array(count).fill(undefined);
    this.#regions = new Array(count).fill(undefined);
    for (let number = 0; number < count; number++) {
      const host = this.#field(number, BlockField.host);
      const page = host - (host % PAGE);
      const known = this.#pages.get(page);
      if (known === undefined) this.#pages.set(page, { first: number, end: number + 1, seen: false });
      else known.end = number + 1;
    }
    for (const saved of image.regions) {
      const waiting = { saved, missing: saved.members.length };
      for (const [number] of saved.members) this.#regions[number] = waiting;
    }
  }

  /** How many blocks there are, and how many of them were taken into use. */
  get use(): { blocks: number; used: number } {
    return { blocks: this.#blocks.length, used: this.#used };
  }

  /** The block at a place, taken into use if the image has it. With it comes what is known of its page, at first. */
  take(host: number, mode: number): Block | undefined {
    const page = this.#pages.get(host - (host % PAGE));
    if (page === undefined) return undefined;
    if (page.seen) this.#takeAgain(page, host, mode);
    else {
      this.#next.push(host - (host % PAGE));
      for (let next = this.#next.pop(); next !== undefined; next = this.#next.pop()) this.#takePage(next);
    }
    return this.#user.at(host, mode);
  }

  #takePage(address: number): void {
    const page = this.#pages.get(address);
    if (page === undefined || page.seen) return;
    page.seen = true;
    this.#user.watch(address);
    const taken: Block[] = [];
    for (let number = page.first; number < page.end; number++) {
      const block = this.#adopt(number);
      if (block !== undefined) taken.push(block);
    }
    this.#user.link(taken);
    this.#user.unwatchEmpty(address);
    for (let number = page.first; number < page.end; number++) this.#enter(this.#regions[number]);
  }

  /** The page is not what it was when it was looked through. */
  #takeAgain({ first, end }: { first: number; end: number }, host: number, mode: number): void {
    for (let number = first; number < end; number++) {
      if (this.#blocks[number] !== undefined || this.#field(number, BlockField.host) !== host) continue;
      if (this.#field(number, BlockField.mode) !== mode) continue;
      const page = host - (host % PAGE);
      this.#user.watch(page);
      const block = this.#adopt(number);
      this.#user.unwatchEmpty(page);
      if (block === undefined) continue;
      this.#user.link([block]);
      const waiting = this.#regions[number];
      // What leads on from here was not looked at since its page was.
      for (const [member] of waiting?.saved.members ?? []) this.#takeMember(member);
      this.#enter(waiting);
      return;
    }
  }

  #takeMember(number: number): void {
    const host = this.#field(number, BlockField.host);
    const page = host - (host % PAGE);
    if (this.#blocks[number] !== undefined || this.#pages.get(page)?.seen !== true) return;
    this.#user.watch(page);
    this.#adopt(number);
    this.#user.unwatchEmpty(page);
  }

  #adopt(number: number): Block | undefined {
    const at = (field: number) => this.#field(number, field);
    const [host, mode] = [at(BlockField.host), at(BlockField.mode)];
    const [length, code] = [at(BlockField.length), at(BlockField.code)];
    if (this.#blocks[number] !== undefined || this.#user.at(host, mode) !== undefined) return undefined;
    const memory = this.#memory;
    for (let index = 0; index < length; index++) {
      if (memory[host + index] !== this.#image.code[code + index]) return undefined;
    }
    const end = host + length;
    const has = (bit: number) => (at(BlockField.edges) & bit) !== 0;
    const block: Block = {
      host,
      length,
      mode,
      record: at(BlockField.record),
      count: at(BlockField.count),
      secondPage: -1,
      edges: {
        ...(has(EdgeBit.taken) && { taken: end + (at(BlockField.taken) | 0) }),
        ...(has(EdgeBit.fallThrough) && { fallThrough: end }),
        ...(has(EdgeBit.returns) && { returns: end }),
      },
      region: undefined,
    };
    this.#blocks[number] = block;
    this.#used += 1;
    this.#user.adopt(block, [at(BlockField.keptLow), at(BlockField.keptHigh)]);
    const waiting = this.#regions[number];
    if (waiting !== undefined) waiting.missing -= 1;
    return block;
  }

  /** Takes a region into use when nothing of it is missing; what is, may be in pages that were not looked through yet. */
  #enter(waiting: Waiting | undefined): void {
    if (waiting === undefined || waiting.missing < 0) return;
    const { saved } = waiting;
    if (waiting.missing > 0) {
      for (const [number] of saved.members) {
        if (this.#blocks[number] !== undefined) continue;
        const host = this.#field(number, BlockField.host);
        const page = host - (host % PAGE);
        if (this.#pages.get(page)?.seen === false) this.#next.push(page);
      }
      return;
    }
    // Once only: whoever leaves it is compiled anew.
    waiting.missing = -1;
    const members = saved.members.map(([number, distance]) => ({ block: this.#blocks[number]!, distance }));
    if (members.some(({ block }) => this.#user.at(block.host, block.mode) !== block)) return;
    this.#user.install(
      {
        slot: saved.slot,
        members,
        seeds: saved.seeds.map(([index, isLoose]) => ({ ...members[index]!, isLoose: isLoose === 1 })),
        entries: saved.entries.map((index) => members[index]!),
      },
      this.#image.regionModules.subarray(saved.at, saved.at + saved.bytes),
    );
  }

  #field(number: number, field: number): number {
    return this.#image.blocks[number * BlockField.fields + field]!;
  }
}
