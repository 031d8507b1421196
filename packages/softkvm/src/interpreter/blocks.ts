/**
 * Decoded code: blocks of records, by where their bytes lie in memory and the mode they were decoded for. A block ends
 * with a branch, at its page's end or after {@link MAX_INSTRUCTIONS}. When bytes of a block are written, its records
 * turn into ones that leave the interpreter, so that whoever comes by decodes anew.
 */

import { Mode, State } from "../cpu/layout.ts";
import type { CpuState } from "../cpu/state.ts";
import { Decoder } from "../decode/decoder.ts";
import { type CodeSize, Instruction, Status } from "../decode/instruction.ts";
import type { Flushed } from "../mmu/tlb.ts";
import { type Block, canBegin, edgesOf, keyOf, NO_EDGES, PAGE, pageOf, pagesOf } from "./block.ts";
import type { CodeImage } from "./code-image.ts";
import { decodeBlock } from "./decode-block.ts";
import { type Handlers, Slot } from "./handlers.ts";
import { Jumps, type Translation } from "./jumps.ts";
import { KnownCode } from "./known-code.ts";
import { KnownShapes } from "./known-shapes.ts";
import { CODE_IMAGES, CODE_LIMITS, type CodeKept } from "./limits.ts";
import type { ModuleCode } from "./module-code.ts";
import { hasPlace, PLACES_BYTES, Places } from "./places.ts";
import { BlockHeader, Record } from "./record.ts";
import { CHAIN_LOOKUP } from "./record-context.ts";
import { RecordWriter } from "./record-writer.ts";
import { Recording } from "./recording.ts";
import { type Region, Regions } from "./regions.ts";
import { SINGLES, Singles } from "./singles.ts";

const MAX_INSTRUCTIONS = 64;
const MAX_LENGTH = 15;
/** Code that was written over when it was compiled has to run twice as often each time, up to so many times. */
export const MOST_DOUBLINGS = 10;

/** An instruction that cannot be executed at all: the exception it raises instead. */
export interface Undecodable {
  readonly kind: "undefined" | "too long";
}

/** Finds code bytes. Throws the guest's fault. */
export interface CodeSource {
  /** Where the byte at a linear address is in linear memory, as the guest fetches it. */
  fetch(linear: bigint): number;
  /** How the last one was translated. */
  readonly translation: Translation;
  /** From now on {@link Blocks.written} is called when the guest writes to this page (a place in linear memory). */
  watch(page: number): void;
  unwatch(page: number): void;
}

export class Blocks {
  readonly #state: CpuState;
  readonly #bytes: Uint8Array;
  readonly #handlers: Handlers;
  readonly #source: CodeSource;
  /** Where the records of {@link single} are. */
  #single: number;
  readonly #singles: Singles;
  readonly #arena: number;
  readonly #arenaEnd: number;
  #free: number;
  /** See {@link keyOf}. */
  readonly #byKey = new Map<number, Block>();
  readonly #byPage = new Map<number, Set<Block>>();
  /** First records of blocks that are no more, with their keys. */
  readonly #dead = new Map<number, number>();
  readonly #regions: Regions;
  /** How often compiled code was written over, by page; since everything was forgotten last. */
  readonly #rewrites = new Map<number, number>();
  readonly #runs: number;
  readonly #jumps: Jumps;
  readonly #places: Places;
  readonly #shapes: KnownShapes;
  /** Instructions that TypeScript does, by record. */
  readonly #microcode = new Map<number, Instruction>();
  readonly #writer: RecordWriter;
  /** What the next guest may use of this one's code, and what this one uses of an earlier one's. */
  #recording: Recording | undefined;
  #known: KnownCode | undefined;
  /** `CodeImage.generation` of what is recorded. */
  #generation = 0;
  #decoder = new Decoder();
  #features: readonly string[] | undefined;
  readonly #scratch = new Instruction();
  /** For an instruction that lies in two pages. */
  readonly #straddle = new Uint8Array(2 * MAX_LENGTH);

  /**
   * Records go to `[arena, arenaEnd)` of linear memory. `runs`: how often a block is run by the interpreter until that
   * returns `WARM`; 0 for never.
   */
  constructor(state: CpuState, handlers: Handlers, source: CodeSource, arena: number, arenaEnd: number, runs = 0) {
    this.#state = state;
    this.#bytes = new Uint8Array(state.view.buffer);
    this.#handlers = handlers;
    this.#source = source;
    this.#places = new Places(state, arena);
    this.#single = arena + PLACES_BYTES;
    this.#singles = new Singles(this.#bytes, this.#single, 2 * Record.size);
    this.#arena = this.#single + SINGLES * 2 * Record.size;
    this.#arenaEnd = arenaEnd;
    this.#free = this.#arena;
    this.#regions = new Regions(state.view, handlers, runs);
    this.#runs = runs;
    this.#jumps = new Jumps(state);
    this.#shapes = new KnownShapes(handlers);
    const chainTo = (target: number, page: number, mode: number) => this.#chainTo(target, page, mode);
    this.#writer = new RecordWriter(state, this.#shapes, chainTo, this.#microcode);
  }

  /** What is kept at present: what a guest can make grow, and what bounds it. */
  get kept(): CodeKept {
    return {
      blocks: this.#byKey.size + this.#dead.size,
      microcode: this.#microcode.size,
      shapes: this.#shapes.count,
      jumpPages: this.#jumps.pages,
      handlerBytes: this.#handlers.bytes,
      regionBytes: this.#regions.bytes,
    };
  }

  /** The instruction of a record that TypeScript does. */
  instructionAt(record: number): Instruction {
    const instruction = this.#microcode.get(record);
    if (instruction === undefined) throw new Error(`no instruction at record ${record}`);
    return instruction;
  }

  /** Translations have changed: addresses no longer stand for the code they stood for. `flushed`: which, or a page's. */
  forgetJumps(flushed: Flushed): void {
    if (flushed === "all") this.#jumps.forgetAll();
    else if (flushed === "non-global") this.#jumps.forgetNonGlobal();
    else this.#jumps.forgetPage(flushed);
  }

  /**
   * The record of the block at an address, decoded now if need be, and entered into the jump cache. `chain`: the record's
   * field that led here, if it shall know the way. Throws the guest's fault of the fetch.
   */
  find(rip: bigint, codeBase: bigint, chain: number): number | Undecodable {
    const mode = this.#state.get32(State.mode);
    const linear = (mode & Mode.BITS) === 2 ? rip : (codeBase + rip) & 0xffffffffn;
    const host = this.#source.fetch(linear);
    const { pageShift, global } = this.#source.translation;
    const key = keyOf(host, mode);
    let block = this.#byKey.get(key);
    if (block !== undefined && block.secondPage >= 0) {
      // The next page may be another one by now.
      const second = this.#source.fetch((linear | 0xfffn) + 1n);
      if (second !== block.secondPage) {
        this.#kill(block);
        block = undefined;
      }
    }
    block ??= this.#known?.take(host, mode);
    if (block === undefined) {
      const made = this.#decode(linear, host, mode);
      if ("kind" in made) return made;
      block = made;
      this.#decoded += 1;
      this.#byKey.set(key, block);
    }
    if (hasPlace(mode) && block.secondPage < 0) this.#places.set(host, mode, block.record);
    const address = (value: bigint) => Number(BigInt.asIntN(64, value));
    this.#jumps.set(address(rip), address(linear), { pageShift, global }, mode, block.record);
    // Decoding may have emptied the arena, and the branch with it.
    if (chain !== 0 && this.#state.get32(State.chain) === chain) this.#link(chain, block);
    return block.record;
  }

  /** The block at a place in linear memory, if it is decoded. */
  at(host: number, mode: number): Block | undefined {
    return this.#byKey.get(keyOf(host, mode));
  }

  /** The block that {@link find} would find now, if it is decoded already. */
  peek(rip: bigint, codeBase: bigint): Block | undefined {
    const mode = this.#state.get32(State.mode);
    const linear = (mode & Mode.BITS) === 2 ? rip : (codeBase + rip) & 0xffffffffn;
    return this.at(this.#source.fetch(linear), mode);
  }

  /** Which instructions there are, by the decoder's features; undefined: all. */
  get features(): readonly string[] | undefined {
    return this.#features;
  }

  /** A block's bytes, as they are at present. */
  codeOf({ host, length }: Block): Uint8Array {
    return this.#bytes.subarray(host, host + length);
  }

  /** A block's instructions, decoded anew into what `take` gives; undefined where its bytes are others by now. */
  instructions(block: Block, take: () => Instruction): Instruction[] | undefined {
    return decodeBlock(this.#decoder, this.codeOf(block), block.mode, take);
  }

  /** The region in a slot of the table. */
  regionAt(slot: number): Region | undefined {
    return this.#regions.at(slot);
  }

  /**
   * A region has been compiled, of so many bytes of its module: it stands in for those that its blocks were in, until one
   * of its blocks is no more.
   */
  enterRegion(region: Region, bytes: number, module: ModuleCode): void {
    this.#regions.enter(region, bytes);
    this.#recording?.compiled(region, module);
  }

  /** The guest was found running there. */
  seen(block: Block): void {
    this.#regions.seen(block);
  }

  /** {@link Regions.waitAgain}. */
  waitAgain(block: Block, forEver = false): void {
    this.#regions.waitAgain(block, forEver);
  }

  /** The interpreter came to a block's first record, and told so: from now on it is silent. */
  settle(record: number): void {
    const view = this.#state.view;
    view.setUint32(record + Record.handler, view.getUint32(record + BlockHeader.handler, true), true);
  }

  /** A block shall be run so often again until that is told; more often where code was written over. */
  countOn(block: Block, runs: number): void {
    this.#regions.interpret(block, runs * 2 ** Math.min(this.rewrites(block), MOST_DOUBLINGS));
  }

  /** How often compiled code in a block's page was written over. */
  rewrites(block: Block): number {
    return this.#rewrites.get(pageOf(block.host)) ?? 0;
  }

  /**
   * The record of the one instruction at an address, for a step: what follows it is the end of the block. It holds until
   * the next call.
   */
  single(rip: bigint, codeBase: bigint): number | Undecodable {
    const mode = this.#state.get32(State.mode);
    const linear = (mode & Mode.BITS) === 2 ? rip : (codeBase + rip) & 0xffffffffn;
    const host = this.#source.fetch(linear);
    const key = keyOf(host, mode);
    const known = this.#singles.find(key, host);
    if (known !== 0) return known;
    this.#single = this.#singles.next(key);
    this.#microcode.delete(this.#single);
    const made = this.#decode(linear, host, mode, 1);
    if ("kind" in made) return made;
    if (made.secondPage < 0) this.#singles.keep(host, made.length);
    return made.record;
  }

  /** From now on decodes for a processor that has these features (see `Form.feature`). */
  decodeAs(features: ReadonlySet<string>): void {
    this.#decoder = new Decoder(features);
    this.#features = [...features];
    this.forgetAll();
  }

  /** Forgets all decoded code. */
  forgetAll(): void {
    this.#reset();
  }

  /** Bytes in linear memory were written: code made of them is no more. */
  written(host: number, size: number): void {
    const page = pageOf(host);
    const blocks = this.#byPage.get(page);
    if (blocks === undefined) return;
    let wasCompiled = false;
    for (const block of blocks) {
      const inSecond = block.secondPage === page;
      const start = inSecond ? page : block.host;
      const end = inSecond ? page + MAX_LENGTH : block.host + block.length;
      if (host >= end || host + size <= start) continue;
      wasCompiled ||= block.region !== undefined;
      this.#kill(block);
    }
    // A page that nothing was decoded from after all.
    this.#unwatchEmpty(page);
    if (wasCompiled) this.#rewrites.set(page, (this.#rewrites.get(page) ?? 0) + 1);
  }

  /** Whether there is code that was made of bytes of a page. */
  hasCode(page: number): boolean {
    return this.#byPage.has(page);
  }

  /** A record of a block that is no more was reached at its first instruction: leads on to its successor. */
  forward(record: number, successor: number): void {
    const key = this.#dead.get(record);
    if (key === undefined || this.#byKey.get(key)?.record !== successor) return;
    const view = this.#state.view;
    view.setUint32(record + Record.taken, successor, true);
    view.setUint32(record + Record.handler, Slot.FORWARD, true);
  }

  /** Lets a branch go straight to a block, which is safe while both are in one page of one mapping. */
  #link(chain: number, block: Block): void {
    const within = block.secondPage < 0;
    this.#state.view.setUint32(chain, within ? block.record : CHAIN_LOOKUP, true);
  }

  #kill(block: Block): void {
    this.#recording?.gone(block);
    this.#regions.blockGone(block);
    const view = this.#state.view;
    for (let index = 0; index < block.count; index++) {
      view.setUint32(block.record + index * Record.size + Record.handler, Slot.RESYNC, true);
    }
    const key = keyOf(block.host, block.mode);
    this.#byKey.delete(key);
    this.#places.remove(block.host, block.record);
    this.#dead.set(block.record, key);
    for (const page of pagesOf(block)) {
      if (this.#byPage.get(page)?.delete(block)) this.#unwatchEmpty(page);
    }
  }

  /** Bytes of a page are about to be decoded: what is written there from now on is told. */
  #watch(page: number): void {
    if (this.#byPage.has(page)) return;
    this.#byPage.set(page, new Set());
    this.#source.watch(page);
  }

  #unwatchEmpty(page: number): void {
    if (this.#byPage.get(page)?.size !== 0) return;
    this.#byPage.delete(page);
    this.#source.unwatch(page);
  }

  get #isFull(): boolean {
    return (
      this.#free + BlockHeader.size + (MAX_INSTRUCTIONS + 1) * Record.size > this.#arenaEnd ||
      this.#byKey.size + this.#dead.size >= CODE_LIMITS.blocks ||
      this.#microcode.size >= CODE_LIMITS.microcode ||
      this.#handlers.isFull
    );
  }

  /** Everything decoded is forgotten; handlers, too, when there are too many: records name them. */
  #reset(): void {
    this.#recording = undefined;
    this.#known = undefined;
    this.#handlers.keepSlots = false;
    for (const page of this.#byPage.keys()) this.#source.unwatch(page);
    this.#regions.clear();
    if (this.#handlers.isFull) {
      this.#handlers.clear();
      this.#shapes.clear();
    }
    this.#rewrites.clear();
    this.#byKey.clear();
    this.#byPage.clear();
    this.#dead.clear();
    this.#microcode.clear();
    this.#free = this.#arena;
    this.#jumps.forgetAll();
    this.#places.clear();
    this.#singles.clear();
    this.#state.set32(State.chain, 0);
  }

  /** From now on remembers what becomes of the code, for {@link image}. Nothing is decoded yet. */
  record(): void {
    this.#recording = new Recording(this.#state.view);
    this.#handlers.keepSlots = true;
  }

  #remember(block: Block, kept: readonly [low: number, high: number]): void {
    this.#recording?.decoded(block, kept);
    // Slots of regions that come and go from here on are in no image.
    if (this.#recording?.isFull) this.#handlers.keepSlots = false;
  }

  /** Whether more was remembered than an earlier guest's image has, and so much that it is worth one. */
  get isWorthKeeping(): boolean {
    if (this.#recording === undefined) return false;
    const { blocks, regions } = this.#recording.news;
    if (this.#known === undefined) return blocks >= CODE_IMAGES.fewestBlocks;
    return blocks >= CODE_IMAGES.fewestNewBlocks || regions >= CODE_IMAGES.fewestNewRegions;
  }

  /** What was remembered. The guest has ended. */
  image(): CodeImage | undefined {
    if (this.#recording === undefined) return undefined;
    this.#known?.leaveTo(this.#recording);
    const { saved, bytes } = this.#handlers.save();
    const handlers = { ...saved, known: this.#shapes.save() };
    const image = this.#recording.image([this.#arena, this.#free], [handlers, bytes], this.#handlers.engine);
    return { generation: this.#generation, ...image };
  }

  /** Uses what an earlier guest left. Nothing is decoded yet. False where it does not fit here. */
  use({ generation, arena, end, records, handlers, handlerModules, ...kept }: CodeImage): boolean {
    if (arena !== this.#arena || end > this.#arenaEnd || this.#free !== this.#arena) return false;
    this.#bytes.set(records, this.#arena);
    this.#free = end;
    this.#handlers.restore(handlers, handlerModules);
    this.#shapes.restore(handlers.known);
    this.#known = new KnownCode(kept, this.#bytes, {
      at: (host, mode) => this.at(host, mode),
      watch: (page) => this.#watch(page),
      unwatchEmpty: (page) => this.#unwatchEmpty(page),
      adopt: (block, kept) => this.#adopt(block, kept),
      link: (blocks) => this.#linkAll(blocks),
      install: (region, module) => {
        this.#handlers.install(module, region.slot);
        this.#regions.enter(region, module.bytes.length);
        this.#recording?.installed(region, module);
      },
    });
    if (generation < CODE_IMAGES.generations) {
      this.#generation = generation + 1;
      const { blocks } = this.#known.use;
      const regionBytes = kept.regions.reduce((sum, { bytes }) => sum + bytes, 0);
      this.#recording = new Recording(this.#state.view, { blocks, regionBytes, end });
      this.#handlers.keepSlots = true;
    }
    return true;
  }

  /** How much of what {@link use} was given was of use, and how many blocks had to be decoded besides. */
  reuse(): { blocks: number; used: number; decoded: number } | undefined {
    return this.#known && { ...this.#known.use, decoded: this.#decoded };
  }
  #decoded = 0;

  /** A block is new, and the interpreter's. */
  #interpret(block: Block): void {
    this.waitAgain(block);
    if (canBegin(block)) this.countOn(block, this.#runs);
  }

  #adopt(block: Block, kept: readonly [low: number, high: number]): void {
    const { host, mode, record, length, count } = block;
    this.#byKey.set(keyOf(host, mode), block);
    this.#byPage.get(pageOf(host))!.add(block);
    this.#interpret(block);
    if (kept[0] === 0 && kept[1] === 0) return;
    const bits = ([16, 32, 64] as const)[mode & Mode.BITS]!;
    for (let index = 0; index < count; index++) {
      if (((kept[index >> 5]! >>> (index & 31)) & 1) === 0) continue;
      const at = record + index * Record.size;
      const instruction = new Instruction();
      const start = host + this.#state.view.getUint32(at + Record.start, true);
      this.#decoder.decode(this.#bytes, start, host + length, bits, instruction);
      this.#microcode.set(at, instruction);
    }
  }

  /** As {@link #chainTo} does where a block is decoded. */
  #linkAll(blocks: readonly Block[]): void {
    const view = this.#state.view;
    for (const { host, mode, record, count, edges } of blocks) {
      const last = record + (count - 1) * Record.size;
      for (const way of ["taken", "fallThrough"] as const) {
        const target = edges[way];
        if (target === undefined || view.getUint32(last + Record[way], true) !== 0) continue;
        view.setUint32(last + Record[way], this.#chainTo(target, pageOf(host), mode), true);
      }
    }
  }

  /** Decodes a block; one that is limited to a single instruction is not kept. */
  #decode(linear: bigint, host: number, mode: number, limit: number = MAX_INSTRUCTIONS): Block | Undecodable {
    const keep = limit > 1;
    if (this.#isFull) this.#reset();
    const view = this.#state.view;
    const bits = ([16, 32, 64] as const)[mode & Mode.BITS]!;
    const pageEnd = pageOf(host) + PAGE;
    if (keep) this.#watch(pageOf(host));
    const first = keep ? this.#free + BlockHeader.size : this.#single;
    let at = host;
    let count = 0;
    let ended = false;
    let secondPage = -1;
    let isWhole = true;
    const kept: [number, number] = [0, 0];
    const instruction = this.#scratch;
    while (count < limit && at < pageEnd && !ended) {
      let status: Status = this.#decoder.decode(this.#bytes, at, pageEnd, bits, instruction);
      if (status === Status.MORE) {
        // The rest is in the next page. Only a block of its own may reach there, so that fetching it faults in time.
        if (count > 0) break;
        secondPage = this.#source.fetch((linear | 0xfffn) + 1n);
        if (keep) this.#watch(secondPage);
        status = this.#decodeStraddling(at, pageEnd, secondPage, bits, instruction);
      }
      if (status !== Status.OK) {
        if (count > 0) break;
        for (const page of [pageOf(host), secondPage]) this.#unwatchEmpty(page);
        return { kind: status === Status.TOO_LONG ? "too long" : "undefined" };
      }
      ended = this.#writer.write(first + count * Record.size, instruction, at - host, host, pageEnd, mode);
      if (keep && this.#microcode.has(first + count * Record.size)) kept[count >> 5]! |= 1 << (count & 31);
      isWhole &&= view.getUint32(first + count * Record.size + Record.handler, true) !== Slot.MICROCODE;
      at += instruction.length;
      count += 1;
      if (secondPage >= 0) break;
    }
    const edges = isWhole ? edgesOf(ended ? instruction : undefined, at) : NO_EDGES;
    if (!ended) {
      this.#writer.writeEnd(first + count * Record.size, at - host, keep && at < pageEnd);
      count += 1;
    }
    this.#handlers.flush();
    const block: Block = { host, length: at - host, mode, record: first, count, secondPage, edges, region: undefined };
    if (keep) {
      this.#free = first + count * Record.size;
      view.setUint32(first + BlockHeader.handler, view.getUint32(first + Record.handler, true), true);
      this.#interpret(block);
      for (const page of pagesOf(block)) this.#byPage.get(page)!.add(block);
      this.#remember(block, kept);
    }
    return block;
  }

  #decodeStraddling(at: number, pageEnd: number, second: number, bits: CodeSize, out: Instruction): Status {
    const head = pageEnd - at;
    this.#straddle.set(this.#bytes.subarray(at, pageEnd));
    this.#straddle.set(this.#bytes.subarray(second, second + MAX_LENGTH), head);
    return this.#decoder.decode(this.#straddle, 0, head + MAX_LENGTH, bits, out);
  }

  /**
   * What a field of a record leads to: the block there, if it is decoded; 0 for one in the same page that is linked when first
   * met; or a look-up every time, as the next page may be another one by then.
   */
  #chainTo(target: number, page: number, mode: number): number {
    if (pageOf(target) !== page) return CHAIN_LOOKUP;
    // Elsewhere addresses wrap around, and have limits.
    if ((mode & Mode.BITS) !== 2) return 0;
    const block = this.#byKey.get(keyOf(target, mode));
    return block === undefined || block.secondPage >= 0 ? 0 : block.record;
  }
}
