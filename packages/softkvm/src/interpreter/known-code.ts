/**
 * Translations from an image (code-image.ts), taken into use as the guest comes by. What counts is what memory holds then: a
 * block is taken where its bytes are those that it was made of, from a page that is watched already, and a region where all
 * its blocks are in use. From there on nothing tells them from what was translated now.
 */

import { type Block, type Edges, pageOf } from "./block.ts";
import { BlockField, type CodeImage, EdgeBit, type SavedRegion } from "./code-image.ts";
import { type ModuleCode, unpackModule } from "./module-code.ts";
import type { Recording } from "./recording.ts";
import type { Region } from "./regions.ts";

/** Where blocks and regions are taken into use: `Blocks`. */
export interface CodeUser {
  at(host: number, mode: number): Block | undefined;
  /** From now on what is written to the page is noticed. */
  watch(page: number): void;
  unwatchEmpty(page: number): void;
  /** `kept`: as `BlockField.keptLow`. */
  adopt(block: Block, kept: Kept): void;
  /** Blocks that are in use by now: records of one page can lead to each other. */
  link(blocks: readonly Block[]): void;
  install(region: Region, module: ModuleCode): void;
}

type Kept = readonly [low: number, high: number];

/** What is needed of an image for as long as the guest is there. */
type KnownParts = Pick<CodeImage, "blocks" | "code" | "regions" | "regionModules">;

interface Waiting {
  readonly saved: SavedRegion;
  /** Its place among all, the newer ones first. */
  readonly order: number;
  /** How many of its blocks are not in use yet. */
  missing: number;
  isInstalled: boolean;
}

export class KnownCode {
  readonly #image: KnownParts;
  readonly #memory: Uint8Array;
  readonly #user: CodeUser;
  /** By page: the numbers of its blocks, and whether it was looked through. */
  readonly #pages = new Map<number, { first: number; end: number; seen: boolean }>();
  /** By number, those in use. */
  readonly #blocks: (Block | undefined)[];
  readonly #regions: (Waiting[] | undefined)[];
  readonly #all: readonly Waiting[];
  readonly #orders = new WeakMap<Region, number>();
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
      const page = pageOf(host);
      const known = this.#pages.get(page);
      if (known === undefined) this.#pages.set(page, { first: number, end: number + 1, seen: false });
      else known.end = number + 1;
    }
    this.#all = image.regions.map((saved, order) => {
      return { saved, order, missing: saved.members.length, isInstalled: false };
    });
    for (const waiting of this.#all) {
      for (const [number] of waiting.saved.members) {
        this.#regions[number] ??= [];
        this.#regions[number].push(waiting);
      }
    }
  }

  /** How many blocks there are, and how many of them were taken into use. */
  get use(): { blocks: number; used: number } {
    return { blocks: this.#blocks.length, used: this.#used };
  }

  /** The block at a place, taken into use if the image has it. With it comes what is known of its page, at first. */
  take(host: number, mode: number): Block | undefined {
    const page = this.#pages.get(pageOf(host));
    if (page === undefined) return undefined;
    if (page.seen) this.#takeAgain(page, host, mode);
    else {
      this.#next.push(pageOf(host));
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
    for (let number = page.first; number < page.end; number++) this.#enterAll(number);
  }

  /** The page is not what it was when it was looked through. */
  #takeAgain({ first, end }: { first: number; end: number }, host: number, mode: number): void {
    for (let number = first; number < end; number++) {
      if (this.#blocks[number] !== undefined || this.#field(number, BlockField.host) !== host) continue;
      if (this.#field(number, BlockField.mode) !== mode) continue;
      const page = pageOf(host);
      this.#user.watch(page);
      const block = this.#adopt(number);
      this.#user.unwatchEmpty(page);
      if (block === undefined) continue;
      this.#user.link([block]);
      // What leads on from here was not looked at since its page was.
      for (const { saved } of this.#regions[number] ?? []) {
        for (const [member] of saved.members) this.#takeMember(member);
      }
      this.#enterAll(number);
      return;
    }
  }

  #takeMember(number: number): void {
    const host = this.#field(number, BlockField.host);
    const page = pageOf(host);
    if (this.#blocks[number] !== undefined || this.#pages.get(page)?.seen !== true) return;
    this.#user.watch(page);
    this.#adopt(number);
    this.#user.unwatchEmpty(page);
  }

  #adopt(number: number): Block | undefined {
    if (this.#blocks[number] !== undefined) return undefined;
    const host = this.#field(number, BlockField.host);
    if (this.#user.at(host, this.#field(number, BlockField.mode)) !== undefined) return undefined;
    const length = this.#field(number, BlockField.length);
    const code = this.#field(number, BlockField.code);
    const memory = this.#memory;
    for (let index = 0; index < length; index++) {
      if (memory[host + index] !== this.#image.code[code + index]) return undefined;
    }
    const block = this.#blockOf(number);
    this.#blocks[number] = block;
    this.#used += 1;
    this.#user.adopt(block, this.#keptOf(number));
    for (const waiting of this.#regions[number] ?? []) waiting.missing -= 1;
    return block;
  }

  #keptOf(number: number): Kept {
    return [this.#field(number, BlockField.keptLow), this.#field(number, BlockField.keptHigh)];
  }

  #blockOf(number: number): Block {
    // A kernel that boots has 70,000 of them: without spreads, closures and lists.
    const { blocks } = this.#image;
    const first = number * BlockField.fields;
    const host = blocks[first + BlockField.host]!;
    const length = blocks[first + BlockField.length]!;
    const end = host + length;
    const ways = blocks[first + BlockField.edges]!;
    const edges: { -readonly [way in keyof Edges]: Edges[way] } = {};
    if (ways & EdgeBit.taken) edges.taken = end + (blocks[first + BlockField.taken]! | 0);
    if (ways & EdgeBit.fallThrough) edges.fallThrough = end;
    if (ways & EdgeBit.returns) edges.returns = end;
    return {
      host,
      length,
      mode: blocks[first + BlockField.mode]!,
      record: blocks[first + BlockField.record]!,
      count: blocks[first + BlockField.count]!,
      secondPage: -1,
      edges,
      region: undefined,
    };
  }

  #enterAll(number: number): void {
    for (const waiting of this.#regions[number] ?? []) this.#enter(waiting);
  }

  /** Takes a region into use when nothing of it is missing; what is, may be in pages that were not looked through yet. */
  #enter(waiting: Waiting): void {
    if (waiting.missing < 0) return;
    const { saved, order } = waiting;
    if (waiting.missing > 0) {
      for (const [number] of saved.members) {
        if (this.#blocks[number] !== undefined) continue;
        const host = this.#field(number, BlockField.host);
        const page = pageOf(host);
        if (this.#pages.get(page)?.seen === false) this.#next.push(page);
      }
      return;
    }
    // Once only: whoever leaves it is compiled anew.
    waiting.missing = -1;
    const region = this.#regionOf(saved);
    if (region.members.some(({ block }) => this.#user.at(block.host, block.mode) !== block)) return;
    // Newer ones have more of the same.
    if (region.members.some(({ block }) => block.region !== undefined && this.#orderOf(block.region) < order)) return;
    waiting.isInstalled = true;
    this.#orders.set(region, order);
    this.#user.install(region, this.#moduleOf(saved));
  }

  /** What was compiled in this guest's time gives way. */
  #orderOf(region: Region): number {
    return this.#orders.get(region) ?? Number.POSITIVE_INFINITY;
  }

  #regionOf(saved: SavedRegion): Region {
    const members = saved.members.map(([number, distance]) => ({ block: this.#blocks[number]!, distance }));
    return {
      slot: saved.slot,
      members,
      seeds: saved.seeds.map(([index, isLoose]) => ({ ...members[index]!, isLoose: isLoose === 1 })),
      entries: saved.entries.map((index) => members[index]!),
    };
  }

  #moduleOf(saved: SavedRegion): ModuleCode {
    return unpackModule(this.#image.regionModules, saved.at, saved);
  }

  /** The guest has ended: all goes into the next image, what the guest did not come to as it was. Nothing is taken from here on. */
  leaveTo(recording: Recording): void {
    for (let number = 0; number < this.#blocks.length; number++) {
      const block = this.#blocks[number] ?? this.#blockOf(number);
      this.#blocks[number] = block;
      recording.known(block, this.#keptOf(number), this.#image.code, this.#field(number, BlockField.code));
    }
    for (const { isInstalled, saved } of this.#all) {
      if (!isInstalled) recording.installed(this.#regionOf(saved), this.#moduleOf(saved), true);
    }
  }

  #field(number: number, field: number): number {
    return this.#image.blocks[number * BlockField.fields + field]!;
  }
}
