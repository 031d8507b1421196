/**
 * Compiling beside the vCPU's thread, in one that the host lends: the guest goes on in the interpreter meanwhile. Some regions are
 * under way at a time, none of which has a block of another one: what would, is decided on again when that has come. So each
 * knows what the ones before have taken in.
 */

import type { Block } from "../interpreter/block.ts";
import type { Blocks } from "../interpreter/blocks.ts";
import type { Handlers } from "../interpreter/handlers.ts";
import { ModuleCode } from "../interpreter/module-code.ts";
import type { Region } from "../interpreter/regions.ts";
import type { CompiledRegion, CompileThread } from "./compile-thread.ts";
import { orderOf } from "./order.ts";
import type { RegionParts } from "./region.ts";
import { FIRST_RUNS } from "./warmth.ts";

/** That something is compiled. */
export interface Wish {
  /** For whose sake. */
  readonly block: Block;
  /** What; undefined: there is nothing to be compiled by now. */
  readonly plan: () => RegionParts | undefined;
  /** What is to be done when that was planned, and, in the vCPU's own thread, compiled. */
  readonly then?: () => void;
}

interface UnderWay {
  readonly wish: Wish;
  readonly plan: RegionParts;
  readonly slot: number;
  readonly era: number;
  readonly blocks: ReadonlySet<Block>;
  /** The regions that it shall replace. */
  readonly replaced: ReadonlySet<Region>;
  /** What has to be decided on when it has come. */
  readonly later: Wish[];
}

/**
 * So many orders are under way at most. With one at a time, the other thread would wait half of the time for this one to look
 * around.
 */
export const MOST_ORDERS = 4;

/** So many wishes are planned at a time: the guest waits for that. */
const MOST_PLANS = 8;

/**
 * So many regions this thread compiles before it wants the other one, whose code has to be loaded and compiled anew: that takes
 * as long as some hundred regions. A boot whose code is known from guests before does without.
 */
const OWN_REGIONS = 200;

/**
 * Or a guest has run for so many budgets, some twice a boot's: what it does by then it may do for long, and little of that comes to the 10,000
 * runs that this thread would compile it for.
 */
export const BUSY_BUDGETS = 8000;

/** What is wished beyond that is wished again, if the guest goes on with it. */
const MOST_WISHES = 64;

export class Beside {
  readonly #thread: CompileThread;
  readonly #blocks: Blocks;
  readonly #handlers: Handlers;
  readonly #base: number;
  readonly #wishes: Wish[] = [];
  /** Blocks for whose sake something is under way or wished. */
  readonly #waiting = new Set<Block>();
  /** In the order in which they will come. */
  readonly #underWay: UnderWay[] = [];
  #isPlanning = false;
  #ownRegions = 0;

  constructor(thread: CompileThread, blocks: Blocks, handlers: Handlers, base: number) {
    this.#thread = thread;
    this.#blocks = blocks;
    this.#handlers = handlers;
    this.#base = base;
  }

  get isReady(): boolean {
    return this.#thread.isReady;
  }

  /** The thread would begin at once with what is wished now. */
  get isIdle(): boolean {
    return this.isReady && this.#wishes.length === 0 && this.#underWay.length < MOST_ORDERS;
  }

  /** This thread has compiled a region. */
  compiledHere(): void {
    this.#ownRegions += 1;
    if (this.#ownRegions === OWN_REGIONS) this.#thread.want();
  }

  /** What is to be compiled, is asked when the thread has time. */
  wish(wish: Wish): void {
    const { block } = wish;
    if (this.#waiting.has(block)) return;
    if (this.#waiting.size >= MOST_WISHES) {
      this.#giveUp(block);
      return;
    }
    this.#waiting.add(block);
    this.#wishes.push(wish);
    this.#next();
  }

  /** Takes what has come into use. The guest is between two of its blocks. `budgets`: how many have ended, where one has. */
  collect(budgets = 0): void {
    if (budgets === BUSY_BUDGETS) this.#thread.want();
    for (let underWay = this.#underWay[0]; underWay !== undefined; underWay = this.#underWay[0]) {
      const compiled = this.#thread.isReady ? this.#thread.take() : "nothing";
      if (compiled === undefined) break;
      this.#underWay.shift();
      this.#finish(underWay, compiled);
    }
    this.#next();
  }

  #next(): void {
    // Plans may end in wishes.
    if (this.#isPlanning) return;
    for (let plans = 0; this.#underWay.length < MOST_ORDERS && plans < MOST_PLANS; plans++) {
      const wish = this.#wishes.shift();
      if (wish === undefined) return;
      this.#isPlanning = true;
      const plan = this.#thread.isReady && this.#isAlive(wish.block) ? wish.plan() : undefined;
      const other = plan && this.#underWay.find(({ blocks }) => plan.members.some(({ block }) => blocks.has(block)));
      if (other === undefined) {
        this.#waiting.delete(wish.block);
        wish.then?.();
      }
      this.#isPlanning = false;
      if (other !== undefined) other.later.push(wish);
      else if (plan !== undefined) this.#order(wish, plan);
      else if (!this.#waiting.has(wish.block)) this.#giveUp(wish.block);
    }
  }

  #order(wish: Wish, plan: RegionParts): void {
    const blocks = new Set(plan.members.map(({ block }) => block));
    const replaced = new Set<Region>();
    for (const { region } of blocks) if (region !== undefined) replaced.add(region);
    const slot = this.#handlers.takeSlot();
    this.#waiting.add(wish.block);
    this.#underWay.push({ wish, plan, slot, era: this.#handlers.era, blocks, replaced, later: [] });
    this.#thread.order(orderOf({ slot, ...plan }, this.#base, this.#blocks));
  }

  #finish({ wish, plan, slot, era, replaced, later }: UnderWay, compiled: CompiledRegion | "nothing"): void {
    const { seeds, members } = plan;
    // Written over, or forgotten; or what is known of the code from an earlier guest has come to use.
    const isCurrent = members.every(
      ({ block }) => this.#isAlive(block) && (block.region === undefined || replaced.has(block.region)),
    );
    this.#waiting.delete(wish.block);
    this.#wishes.unshift(...later);
    if (compiled !== "nothing" && isCurrent && this.#handlers.era === era) {
      const { bytes } = compiled;
      const module = new ModuleCode(bytes, { module: compiled.module as WebAssembly.Module });
      this.#handlers.install(module, slot);
      const entries = compiled.entries.map((number) => members[number]!);
      this.#blocks.enterRegion({ slot, seeds, members, entries }, bytes.length, module);
      return;
    }
    // When all handlers were forgotten, so were the slots.
    if (this.#handlers.era === era) this.#handlers.returnSlot(slot);
    this.#giveUp(wish.block);
  }

  #isAlive(block: Block): boolean {
    return this.#blocks.at(block.host, block.mode) === block;
  }

  /** Where the interpreter has a block that had become warm, its runs are counted again. */
  #giveUp(block: Block): void {
    if (block.region === undefined && this.#isAlive(block)) this.#blocks.countOn(block, FIRST_RUNS);
  }
}
