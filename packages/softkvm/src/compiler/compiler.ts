/**
 * Compiles hot code: blocks that lead to each other become one WebAssembly function, a region, which is entered at the
 * records of some of them in place of their handlers. Which blocks those are is found out as the guest runs: a region begins
 * with a block that was found running, and asks to take in what it often leaves for, be it called, returned or jumped to.
 */

import type { Instruction } from "../decode/instruction.ts";
import { type Block, canBegin } from "../interpreter/block.ts";
import { type Blocks, MOST_DOUBLINGS } from "../interpreter/blocks.ts";
import type { Handlers } from "../interpreter/handlers.ts";
import { ModuleCode } from "../interpreter/module-code.ts";
import type { Member, Region, Seed } from "../interpreter/regions.ts";
import { Beside, type Wish } from "./beside.ts";
import type { CompileThread } from "./compile-thread.ts";
import { GIVEN_UP, type Look, noLook } from "./given-up.ts";
import { InstructionPool } from "./instruction-pool.ts";
import { type WrittenRegions, writeRegions } from "./module.ts";
import type { RegionParts, RegionPlan } from "./region.ts";
import { ENOUGH_RUNS, FIRST_RUNS, Warmth } from "./warmth.ts";

/** A region's bounds: what one function may grow to. */
const MAX_BLOCKS = 128;
const MAX_INSTRUCTIONS = 800;

/**
 * A region is given up so often for the sake of who kicks the vCPU, and then compiled whatever is asked. Each time it is to be half
 * as large, so that this is of few instructions: kicks that come again and again delay compiled code, and do not prevent it.
 */
const MOST_GIVEN_UP = 8;

const PAGE = 4096;

/** How often a block has to be found running before it is compiled. */
const HOT = 2;

/** The same for one that a region contains already, but is not entered at. */
const HOT_INSIDE = 8;

/** How often a region asks for more before it is compiled again for the sake of few blocks: see {@link Compiler.extend}. */
const ASKED_OFTEN = 6;

export class Compiler {
  readonly #blocks: Blocks;
  readonly #handlers: Handlers;
  readonly #base: number;
  /** Blocks that are no more drop out by themselves. */
  readonly #samples = new WeakMap<Block, number>();
  readonly #warmth = new Warmth();
  /** Blocks that a region contains and that were run by the interpreter often nevertheless. */
  readonly #isWarmInside = new WeakSet<Block>();
  /** What regions asked to take in. */
  readonly #wanted = new WeakMap<Region, { times: number; members: Seed[] }>();

  /** How often a region for a block's sake was given up. */
  readonly #givenUp = new WeakMap<Block, number>();

  readonly #instructions = new InstructionPool();
  readonly #beside: Beside | undefined;
  readonly #isKicked: () => boolean;

  /**
   * `base`: where the vCPU's state is in linear memory. Without a thread to compile beside this one, this one does, and gives up
   * when the vCPU `isKicked`.
   */
  constructor(
    blocks: Blocks,
    handlers: Handlers,
    base: number,
    { thread, isKicked = () => false }: { thread?: CompileThread | undefined; isKicked?: () => boolean } = {},
  ) {
    this.#isKicked = isKicked;
    this.#blocks = blocks;
    this.#handlers = handlers;
    this.#base = base;
    this.#beside = thread && new Beside(thread, blocks, handlers, base);
  }

  /** Takes into use what was compiled beside this thread. The guest is not in compiled code. `budgets`: how many have ended, where one has. */
  collect(budgets?: number): void {
    this.#beside?.collect(budgets);
  }

  /** The guest was found at the start of this block. */
  sample(block: Block): void {
    this.#blocks.seen(block);
    const { region } = block;
    if (!canBegin(block) || region?.entries.some((entry) => entry.block === block)) return;
    const count = (this.#samples.get(block) ?? 0) + 1;
    const enough = region === undefined ? HOT : HOT_INSIDE;
    if (count < enough * 2 ** Math.min(this.#blocks.rewrites(block), MOST_DOUBLINGS)) {
      this.#samples.set(block, count);
      return;
    }
    this.#samples.delete(block);
    this.#begin(block);
  }

  /** The interpreter has come to a step of this block's runs, wherever the guest is found. `budgets`: how many have ended. */
  warm(block: Block, budgets: number): void {
    const isInside = this.#isWarmInside.has(block);
    const more = isInside || this.#givenUp.has(block) ? 0 : this.#warmth.next(block, budgets, this.#beside?.isIdle);
    if (more > 0) {
      this.#blocks.countOn(block, more);
      return;
    }
    if (block.region === undefined || isInside) {
      this.#begin(block);
      return;
    }
    this.#countInside(block);
  }

  /** A region contains the block: only if the interpreter has it much longer nevertheless, it is to be entered there. */
  #countInside(block: Block): void {
    this.#isWarmInside.add(block);
    this.#blocks.countOn(block, (ENOUGH_RUNS * HOT_INSIDE) / HOT);
  }

  /**
   * The region in this slot often goes to a block, `distance` behind its base address. Compiling it anew costs as much as
   * it is large, so some requests are collected before.
   */
  extend(slot: number, block: Block, distance: number): void {
    const region = this.#blocks.regionAt(slot);
    if (region === undefined || !canBegin(block) || distance !== (distance | 0)) {
      this.#blocks.waitAgain(block, true);
      return;
    }
    const wanted = this.#wanted.get(region) ?? { times: 0, members: [] };
    this.#wanted.set(region, wanted);
    wanted.times += 1;
    if (!wanted.members.some((member) => member.block === block)) {
      wanted.members.push({
        block,
        distance,
        isLoose: region.members.some((member) => leadsTo(member, block, distance)),
      });
    }
    if (wanted.members.length * 3 < region.seeds.length && wanted.times < ASKED_OFTEN) {
      this.#blocks.waitAgain(block);
      return;
    }
    this.#wanted.delete(region);
    for (const member of wanted.members) this.#blocks.waitAgain(member.block);
    let tooMany: readonly Member[] = [];
    const head = region.seeds[0]!.block;
    const plan = () => {
      if (this.#blocks.regionAt(slot) !== region) return undefined;
      const alive = wanted.members.filter((member) => this.#blocks.at(member.block.host, block.mode) === member.block);
      const plan = this.#gather([...region.seeds, ...alive], { most: this.#mostFor(head) });
      const hasRoom = ({ block }: Member) => plan.seeds.some((seed) => seed.block === block);
      tooMany = alive.filter((member) => !hasRoom(member));
      return alive.some(hasRoom) ? plan : undefined;
    };
    const then = () => {
      for (const { block } of tooMany) {
        if (block.region === undefined) this.#want({ block, plan: () => this.#gather([{ block, distance: 0 }]) });
        this.#blocks.waitAgain(block, true);
      }
    };
    this.#want({ block, plan, then }, head);
  }

  /** A region is to begin with this block. */
  #begin(block: Block): void {
    const wasInside = block.region !== undefined;
    const plan = () => {
      const { region } = block;
      if (region?.entries.some((entry) => entry.block === block)) return undefined;
      if (region !== undefined && !wasInside) {
        // Since it was wished, a block in front of it has become a region with it: mostly it is reached from there by now.
        this.#countInside(block);
        return undefined;
      }
      const seed = { block, distance: 0, isLoose: region === undefined };
      return this.#gather([seed], { most: this.#mostFor(block) });
    };
    this.#want({ block, plan });
  }

  /** Compiles here and now, or beside. `head`: the region's that is to be, which counts how often that was given up. */
  #want(wish: Wish, head = wish.block): void {
    if (this.#beside?.isReady) {
      this.#beside.wish(wish);
      return;
    }
    const times = this.#givenUp.get(head) ?? 0;
    const look: Look = () => {
      if (this.#isKicked()) throw GIVEN_UP;
    };
    try {
      if (times < MOST_GIVEN_UP) look();
      const parts = wish.plan();
      if (parts !== undefined) {
        this.#compile([parts], times < MOST_GIVEN_UP ? look : noLook);
        this.#beside?.compiledHere();
      }
      this.#givenUp.delete(head);
    } catch (error) {
      if (error !== GIVEN_UP) throw error;
      this.#givenUp.set(head, times + 1);
      // Where the interpreter counts its runs, it begins again.
      if (head.region === undefined) this.#blocks.countOn(head, FIRST_RUNS);
      return;
    }
    wish.then?.();
  }

  /** How many instructions a region for a block's sake is to grow to. */
  #mostFor(block: Block): number {
    return MAX_INSTRUCTIONS >> (this.#givenUp.get(block) ?? 0);
  }

  /** Compiles these blocks with all that they lead to, in one module. */
  compile(heads: readonly Block[]): void {
    const covered = new Set<Block>();
    const plans: RegionParts[] = [];
    for (const block of heads) {
      if (covered.has(block)) continue;
      const plan = this.#gather([{ block, distance: 0 }], { taken: covered });
      for (const member of plan.members) covered.add(member.block);
      plans.push(plan);
    }
    this.#compile(plans);
  }

  #compile(all: readonly RegionParts[], look = noLook): void {
    this.#instructions.reset();
    const instructions = new Map<Block, readonly Instruction[]>();
    for (const { block } of all.flatMap(({ members }) => members)) {
      look();
      const decoded = this.#blocks.instructions(block, this.#instructions.take);
      // Written over by another vCPU; this one is told of that soon, and forgets the block.
      if (decoded === undefined) return;
      instructions.set(block, decoded);
    }
    const plans = all.map((parts) => ({ slot: this.#handlers.takeSlot(), ...parts }));
    const { module, entries } = this.#write(plans, instructions, look);
    const code = new ModuleCode(module.encode());
    this.#handlers.install(code, plans[0]!.slot);
    for (const [index, plan] of plans.entries()) {
      this.#blocks.enterRegion({ ...plan, entries: entries[index]! }, code.bytes.length / plans.length, code);
    }
  }

  #write(
    plans: readonly RegionPlan[],
    instructions: ReadonlyMap<Block, readonly Instruction[]>,
    look: Look,
  ): WrittenRegions {
    try {
      return writeRegions(plans, this.#base, instructions, look);
    } catch (error) {
      for (const { slot } of plans) this.#handlers.returnSlot(slot);
      throw error;
    }
  }

  /**
   * The seeds, and what can be reached from them within their pages by direct jumps, calls and returns, nearest first. A
   * block is in one region only: what belongs to another region comes with all of it, or stays there if that is too much. Of `most`
   * instructions on, nothing more is looked for.
   */
  #gather(
    wanted: readonly Seed[],
    { taken = new Set(), most = MAX_INSTRUCTIONS }: { taken?: ReadonlySet<Block>; most?: number } = {},
  ): RegionParts {
    const seeds: Seed[] = [];
    const members: Member[] = [];
    const known = new Set<Block>(taken);
    let instructions = 0;
    const add = (more: readonly Member[]): boolean => {
      const fresh = more.filter(({ block }) => !known.has(block));
      const count = fresh.reduce((sum, { block }) => sum + block.count, 0);
      if (members.length + fresh.length > MAX_BLOCKS || instructions + count > MAX_INSTRUCTIONS) return false;
      for (const member of fresh) known.add(member.block);
      members.push(...fresh);
      instructions += count;
      return true;
    };
    const take = (member: Member): boolean => {
      const { block, distance } = member;
      const { region } = block;
      if (known.has(block)) return true;
      if (region === undefined) return add([member]);
      const moved = distance - region.members.find((other) => other.block === block)!.distance;
      const move = <Each extends Member>(other: Each): Each => ({ ...other, distance: other.distance + moved });
      if (!add(region.members.map(move))) return false;
      seeds.push(...region.seeds.map(move));
      return true;
    };
    for (const seed of wanted) {
      if (!take(seed)) continue;
      const known = seeds.findIndex(({ block }) => block === seed.block);
      if (known < 0) seeds.push(seed);
      else if (!seed.isLoose) seeds[known] = seed;
    }
    for (const { block, distance } of members) {
      if (instructions >= most) break;
      const { taken, fallThrough, returns } = block.edges;
      for (const host of [fallThrough, taken, returns]) {
        if (host === undefined || Math.floor(host / PAGE) !== Math.floor(block.host / PAGE)) continue;
        const next = this.#blocks.at(host, block.mode);
        if (next !== undefined && next.secondPage < 0) take({ block: next, distance: distance + host - block.host });
      }
    }
    return { seeds, members };
  }
}

/** Whether there is a jump within a page from a region's block to another block. */
function leadsTo({ block: { host, edges }, distance }: Member, block: Block, to: number): boolean {
  const isNear = Math.floor(host / PAGE) === Math.floor(block.host / PAGE) && block.host - host === to - distance;
  return isNear && (edges.taken === block.host || edges.fallThrough === block.host);
}
