/**
 * Compiles hot code: blocks of one page that lead to each other become one WebAssembly function, entered at the first
 * block's record in place of its handler, and left to the interpreter wherever it does not know more.
 */

import { Mode, State } from "../cpu/layout.ts";
import type { Instruction } from "../decode/instruction.ts";
import type { Block, Blocks } from "../interpreter/blocks.ts";
import { type Handlers, importOutside, jump } from "../interpreter/handlers.ts";
import { Record, Return } from "../interpreter/record.ts";
import type { Outside } from "../interpreter/record-context.ts";
import { shapeOf } from "../interpreter/shape.ts";
import { isAvx } from "../semantics/sse/availability.ts";
import { meaningOf } from "../semantics/table.ts";
import type { Code } from "../wasm/code.ts";
import type { Expr, I32, I64 } from "../wasm/expr.ts";
import { ModuleBuilder } from "../wasm/module.ts";
import { c32, c64, choose, i32, i64 } from "../wasm/ops.ts";
import { FlowGraph, type FlowNode } from "./graph.ts";
import { RegionContext, RegionState } from "./region-context.ts";

/** A region's bounds: what one function may grow to. */
const MAX_BLOCKS = 48;
const MAX_INSTRUCTIONS = 512;
const PAGE = 4096;

/** Why a region is left, beside `Return`: the interpreter goes on at the start of an instruction. */
const INTERPRET = -1;

/** How often a block has to be found running before it is compiled. */
const HOT = 2;
/** Twice as often for each time that compiled code of its page was written over, up to so many times. */
const MOST_DOUBLINGS = 10;

export class Compiler {
  readonly #blocks: Blocks;
  readonly #handlers: Handlers;
  readonly #base: number;
  /** Blocks that are no more drop out by themselves. */
  readonly #samples = new WeakMap<Block, number>();

  constructor(blocks: Blocks, handlers: Handlers, base: number) {
    this.#blocks = blocks;
    this.#handlers = handlers;
    this.#base = base;
  }

  /** The guest was found at the start of this block. */
  sample(block: Block): void {
    this.#blocks.seen(block);
    if (block.region !== undefined || !canBegin(block)) return;
    const count = (this.#samples.get(block) ?? 0) + 1;
    if (count < HOT * 2 ** Math.min(this.#blocks.rewrites(block), MOST_DOUBLINGS)) {
      this.#samples.set(block, count);
      return;
    }
    this.#samples.delete(block);
    this.compile([block]);
  }

  /** Compiles the regions that begin at these blocks, in one module. */
  compile(heads: readonly Block[]): void {
    const module = new ModuleBuilder();
    const outside = importOutside(module, true);
    const regions = heads.map((head) => {
      const members = this.#gather(head);
      const { index, code } = module.function(["i32"], ["i32"]);
      new Region(code, this.#base, outside, head, members, this.#blocks).write();
      return { head, members, index };
    });
    const { slots, bytes } = this.#handlers.install(
      module,
      regions.map(({ index }) => index),
    );
    for (const [at, { head, members }] of regions.entries()) {
      this.#blocks.enterRegion(head, members, slots[at]!, bytes / heads.length);
    }
  }

  /** The blocks of the head's page that can be reached from it by direct jumps, nearest first. */
  #gather(head: Block): Block[] {
    const members = [head];
    let instructions = head.count;
    for (let at = 0; at < members.length; at++) {
      const { taken, fallThrough } = members[at]!.edges;
      for (const host of [fallThrough, taken]) {
        if (host === undefined) continue;
        const next = this.#blocks.at(host, head.mode);
        if (next === undefined || next.secondPage >= 0 || members.includes(next)) continue;
        if (Math.floor(host / PAGE) !== Math.floor(head.host / PAGE)) continue;
        instructions += next.count;
        if (members.length === MAX_BLOCKS || instructions > MAX_INSTRUCTIONS) return members;
        members.push(next);
      }
    }
    return members;
  }
}

/** One region as it is written. */
class Region {
  readonly #code: Code;
  readonly #outside: Outside;
  readonly #head: Block;
  readonly #members: readonly Block[];
  readonly #instructions: ReadonlyMap<Block, readonly Instruction[]>;
  readonly #state: RegionState;
  readonly #nodes: FlowNode[];
  /** The handler of the head's record. */
  readonly #original: number;

  constructor(code: Code, base: number, outside: Outside, head: Block, members: readonly Block[], blocks: Blocks) {
    this.#code = code;
    this.#outside = outside;
    this.#head = head;
    this.#members = members;
    this.#original = blocks.handlerOf(head);
    this.#instructions = new Map(members.map((block) => [block, blocks.instructions(block)]));
    const all = [...this.#instructions.values()].flat();
    const hasAvx = all.some(({ form }) => isAvx(form));
    const hasSse = all.some(({ operands, operandCount }) =>
      operands.some(({ kind, bank }, index) => index < operandCount && kind === "reg" && bank === "xmm"),
    );
    const hasX87 = all.some(({ form }) => form.feature === "fpu");
    this.#state = new RegionState(code, base, { hasVectors: hasSse || hasAvx, hasAvx, hasX87 });
    const places = new Map(members.map((block, index) => [block.host, index]));
    const place = (host: number | undefined) => (host === undefined ? -1 : (places.get(host) ?? -1));
    this.#nodes = members.map(({ edges: { taken, fallThrough } }) => ({
      taken: place(taken ?? fallThrough),
      fallThrough: taken !== undefined && fallThrough !== undefined ? place(fallThrough) : undefined,
    }));
  }

  write(): void {
    const code = this.#code;
    const state = this.#state;
    code.block((exit) => {
      state.exit = exit;
      code.block((interpret) => {
        state.interpret = interpret;
        code.block((microcode) => {
          state.microcode = microcode;
          new FlowGraph(this.#nodes).write(code, {
            body: (index) => this.#body(this.#members[index]!),
            leave: (from, taken) => this.#leave(this.#members[from]!, taken),
            backEdge: (_from, to) => this.#backEdge(this.#members[to]!),
          });
          code.unreachable();
        });
        code.store("i32", c32(state.base + State.record), 0, state.leftRecord);
        state.leave(Return.MICROCODE, this.#ripAt(i64.extend_i32_s(state.leftBlock)));
      });
      state.leave(INTERPRET, this.#ripAt(i64.extend_i32_s(state.leftBlock)));
    });
    state.store();
    code.if(i32.eq(state.reason, c32(INTERPRET)), () => {
      // At the head's record there is this region: its own handler is another one.
      const isHead = i32.eq(state.leftRecord, c32(this.#head.record));
      const handler = i32.load(state.leftRecord, Record.handler);
      const slot = choose(isHead, c32(this.#original), handler);
      code.tailCallIndirect(this.#outside.handlerType, slot, state.leftRecord);
    });
    code.if(i32.eqz(state.reason), () => {
      jump(code, state.base, this.#outside);
      code.store("i32", c32(state.base + State.chain), 0, c32(0));
    });
    code.return(state.reason);
    code.unreachable();
    code.before(() => state.load());
  }

  /** Writes a block's instructions; returns what its branch depends on. */
  #body(block: Block): I32 | undefined {
    const code = this.#code;
    const delta = block.host - this.#head.host;
    let start = 0;
    let record = block.record;
    let condition: I32 | undefined;
    this.#state.enterBlock();
    for (const instruction of this.#instructions.get(block)!) {
      const { form } = instruction;
      const next = start + instruction.length;
      const meaning = meaningOf(form.mnemonic, form.condition);
      const shape = meaning === undefined ? undefined : shapeOf(instruction, block.mode);
      const mark = code.mark;
      let kept: ReadonlySet<Expr> = new Set();
      if (meaning === undefined || shape === undefined) {
        // TypeScript does it, and goes on in the interpreter.
        code.store("i32", c32(this.#state.base + State.record), 0, c32(record));
        this.#state.leave(Return.MICROCODE, this.#rip(delta));
        code.releaseSince(mark, kept);
        return undefined;
      }
      const context = new RegionContext(this.#state, shape, this.#outside, instruction, {
        record,
        block: delta,
        start,
        next,
      });
      meaning(context);
      condition = context.condition;
      kept = context.kept();
      code.releaseSince(mark, kept);
      start = next;
      record += Record.size;
    }
    return condition;
  }

  #leave(from: Block, taken: boolean): void {
    const { edges } = from;
    const to = taken ? (edges.taken ?? edges.fallThrough) : edges.fallThrough;
    // A block that ends in a jump to an address of run time, or in TypeScript, has left already.
    if (to === undefined) return;
    this.#state.leave(Return.LOOKUP, this.#rip(to - this.#head.host));
  }

  /** A jump back costs some of the budget, and looks around when that is used up. */
  #backEdge(to: Block): void {
    const { budget } = this.#state;
    const code = this.#code;
    code.set(budget, i32.sub(budget, c32(1)));
    code.if(i32.lt_s(budget, c32(0)), () => this.#state.leave(Return.BUDGET, this.#rip(to.host - this.#head.host)));
  }

  /** A virtual address by its distance from the region's first instruction. */
  #rip(distance: number): I64 {
    return this.#ripAt(c64(distance));
  }
  #ripAt(distance: I64): I64 {
    const sum = i64.add(this.#state.entryRip, distance);
    const bits = this.#head.mode & Mode.BITS;
    return bits === 2 ? sum : i64.and(sum, c64(bits === 1 ? 0xffffffff : 0xffff));
  }
}

/** A block in two pages stays with the interpreter; one whose first instruction is TypeScript's gains nothing. */
export function canBegin({ secondPage, count, edges }: Block): boolean {
  return secondPage < 0 && (count > 1 || edges.taken !== undefined);
}
