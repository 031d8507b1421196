/** Writes a region: one function out of its blocks, with their jumps inside. */

import { Budget } from "../cpu/budget.ts";
import { Mode, State } from "../cpu/layout.ts";
import type { Instruction } from "../decode/instruction.ts";
import type { Block, Edges } from "../interpreter/block.ts";
import { JumpCache, jumpCacheEntries } from "../interpreter/handlers.ts";
import type { Outside } from "../interpreter/outside.ts";
import { BlockHeader, Record, Return } from "../interpreter/record.ts";
import type { Member, Seed } from "../interpreter/regions.ts";
import { isAvx } from "../semantics/sse/availability.ts";
import type { Code } from "../wasm/code.ts";
import type { I32, I64 } from "../wasm/expr.ts";
import { c32, c64, choose, i32, i64 } from "../wasm/ops.ts";
import { gated } from "./gates.ts";
import type { Look } from "./given-up.ts";
import type { FlowGraph, FlowNode } from "./graph.ts";
import type { KnownFlags } from "./lazy-flags.ts";
import { type KnownMeaning, meaningIn } from "./meaning.ts";
import { RegionContext } from "./region-context.ts";
import { Leave, RegionState } from "./region-state.ts";

const PAGE = 4096;

/** What a region is to consist of. */
export interface RegionParts {
  readonly seeds: readonly Seed[];
  readonly members: readonly Member[];
}

/** The same, and where it will be. */
export interface RegionPlan extends RegionParts {
  readonly slot: number;
}

/** An instruction, and what it does; undefined where TypeScript does it, and the region is left. */
interface Step {
  readonly instruction: Instruction;
  readonly known: KnownMeaning | undefined;
}

/** What is written of a member, and where that leads. */
interface Part {
  readonly steps: readonly Step[];
  readonly edges: Edges;
}

export class RegionWriter {
  /** Members at which the region is entered, from outside and by jumps that have no structured form. */
  readonly entries: readonly Member[];
  readonly #code: Code;
  readonly #outside: Outside;
  readonly #look: Look;
  readonly #slot: number;
  readonly #mode: number;
  readonly #members: readonly Member[];
  readonly #parts: readonly Part[];
  readonly #state: RegionState;
  readonly #graph: FlowGraph;
  /** Members by where they lie in linear memory. */
  readonly #places: ReadonlyMap<number, number>;
  readonly #flagsAtEnd = new Map<number, KnownFlags>();

  /** `instructions`: those of each block. */
  constructor(
    code: Code,
    base: number,
    outside: Outside,
    { slot, seeds, members }: RegionPlan,
    instructions: ReadonlyMap<Block, readonly Instruction[]>,
    look: Look,
  ) {
    this.#code = code;
    this.#look = look;
    this.#outside = outside;
    this.#slot = slot;
    this.#members = members.toSorted((one, other) => one.distance - other.distance);
    this.#mode = members[0]!.block.mode;
    this.#places = new Map(this.#members.map(({ block }, index) => [block.host, index]));
    this.#parts = this.#members.map((member) => this.#part(member, instructions.get(member.block)!));
    const all = this.#parts.flatMap(({ steps }) => steps.map(({ instruction }) => instruction));
    const hasAvx = all.some(({ form }) => isAvx(form));
    const hasSse = all.some(({ operands, operandCount }) =>
      operands.some(({ kind, bank }, index) => index < operandCount && kind === "reg" && bank === "xmm"),
    );
    const hasX87 = all.some(({ form }) => form.feature === "fpu");
    this.#state = new RegionState(code, base, this.#mode, { hasVectors: hasSse || hasAvx, hasAvx, hasX87 });
    const { entries, graph } = this.#plan(seeds);
    this.entries = entries.map((index) => this.#members[index]!);
    this.#graph = graph;
  }

  /**
   * What is written of a block: up to where another one begins, which a jump leads to. With the rest in both of them, a
   * loop that is entered there would have two beginnings.
   */
  #part(member: Member, instructions: readonly Instruction[]): Part {
    const { block } = member;
    const steps: Step[] = [];
    let end = block.host;
    for (const instruction of instructions) {
      this.#look();
      if (steps.length > 0 && this.#place(member, end) >= 0) return { steps, edges: { fallThrough: end } };
      const known = meaningIn(instruction, block.mode);
      steps.push({ instruction, known });
      if (known === undefined) break;
      end += instruction.length;
    }
    return { steps, edges: block.edges };
  }

  /** Which members are entries: the seeds, where calls come back to, and what no structure of the others reaches. */
  #plan(seeds: readonly Seed[]): { entries: number[]; graph: FlowGraph } {
    // The dispatcher is block 0.
    const numberOf = (place: number) => place + 1;
    const placeOf = ({ block }: Seed) => numberOf(this.#places.get(block.host)!);
    const returns = new Map<number, number>();
    for (const [index, member] of this.#members.entries()) {
      const place = this.#place(member, this.#parts[index]!.edges.returns);
      if (place >= 0) returns.set(numberOf(index), numberOf(place));
    }
    const ways = this.#members.map((member, index): FlowNode => {
      const { taken, fallThrough } = this.#parts[index]!.edges;
      const to = [taken ?? fallThrough, taken === undefined ? undefined : fallThrough];
      return { to: to.filter((host) => host !== undefined).map((host) => numberOf(this.#place(member, host)) || -1) };
    });
    // Loops end up outside when their budget ends, and want to come back.
    const wanted = {
      entries: [...seeds.filter(({ isLoose }) => !isLoose).map(placeOf), ...returns.values()],
      loose: seeds.filter(({ isLoose }) => isLoose).map(placeOf),
      returns,
    };
    const { graph, entries } = gated([{ to: [] }, ...ways], wanted, this.#look);
    return { entries: entries.map((index) => index - 1), graph };
  }

  /**
   * The number of the member that a jump to a place in linear memory leads to, or -1. Within a page only: what another
   * virtual page is at the time of the jump, the jump cache knows. A page may also be known here by another address.
   */
  #place({ block, distance }: Member, host: number | undefined): number {
    const place = host === undefined ? undefined : this.#places.get(host);
    if (place === undefined) return -1;
    const target = this.#members[place]!;
    const isNear = Math.floor(target.block.host / PAGE) === Math.floor(block.host / PAGE);
    return isNear && target.distance - distance === target.block.host - block.host ? place : -1;
  }

  write(): void {
    const code = this.#code;
    const state = this.#state;
    const { loops } = this.#graph;
    code.block((exit) => {
      state.exit = exit;
      code.block((interpret) => {
        state.interpret = interpret;
        code.block((microcode) => {
          state.microcode = microcode;
          code.loop((dispatch) => {
            code.block((lookup) => {
              state.lookup = lookup;
              this.#graph.write(code, {
                body: (index, from) => (this.#isMember(index) ? this.#body(index - 1, from) : state.next),
                leave: (from, way) => this.#leave(from - 1, way, () => code.br(dispatch)),
                backEdge: (_from, to) =>
                  this.#backEdge(this.#members[this.#loopOf(to) - 1]!, this.#turnOf(loops.get(to))),
                passGate: () => code.set(state.next, c32(0)),
              });
              code.unreachable();
            });
            this.#lookUp(() => code.br(dispatch));
          });
          code.unreachable();
        });
        code.store("i32", c32(state.base + State.record), 0, state.leftRecord);
        state.leave(Return.MICROCODE, this.#ripAt(i64.extend_i32_s(state.leftBlock)));
      });
      state.leave(Leave.INTERPRET, this.#ripAt(i64.extend_i32_s(state.leftBlock)));
    });
    state.store();
    this.#goOn();
    code.return(state.reason);
    code.unreachable();
    code.before(() => state.load());
  }

  #isMember(node: number): boolean {
    return node > 0 && node <= this.#members.length;
  }

  /** What a turn of a loop costs. */
  #turnOf(loop: ReadonlySet<number> = new Set()): number {
    let instructions = 0;
    for (const node of loop) if (this.#isMember(node)) instructions += this.#parts[node - 1]!.steps.length;
    return 1 + Math.floor(instructions / Budget.loopInstructions);
  }

  /** The member at which the loop begins that a jump leads back to, by a gate or without one. */
  #loopOf(node: number): number {
    return this.#isMember(node) ? node : this.#graph.nodes[node]!.to[0]!;
  }

  /** An address of run time: goes on here, in what the jump cache knows, or by a look-up outside. */
  #lookUp(again: () => void): void {
    const code = this.#code;
    const state = this.#state;
    code.set(state.budget, i32.sub(state.budget, c32(Budget.dispatch)));
    code.if(i32.lt_s(state.budget, c32(0)), () => state.leave(Return.BUDGET, state.exitRip));
    // Ring 3 has entries of other address spaces there, too.
    const isUser = (this.#mode & Mode.USER) !== 0;
    const tag = isUser ? i32.or(i32.load(c32(state.base + State.space)), c32(this.#mode)) : c32(this.#mode);
    code.block((known) => {
      for (const place of jumpCacheEntries(state.base, state.exitRip, isUser)) {
        const entry = code.let(place);
        const isIt = i64.eq(i64.load(entry, JumpCache.rip), state.exitRip);
        code.if(i32.and(isIt, i32.eq(i32.load(entry, JumpCache.mode), tag)), () => {
          code.set(state.leftRecord, i32.load(entry, JumpCache.record));
          code.br(known);
        });
      }
      state.leave(Leave.ELSEWHERE, state.exitRip);
    });
    code.if(i32.eq(i32.load(state.leftRecord, Record.handler), c32(this.#slot)), () => {
      // The same page may be seen at another address by now.
      state.enter(state.leftRecord, state.exitRip);
      again();
    });
    state.leave(Leave.ENTER, state.exitRip);
  }

  /** All is stored: goes on where that is not TypeScript's to do. */
  #goOn(): void {
    const code = this.#code;
    const { reason, leftRecord: record, base, entryRip } = this.#state;
    const { handlerType } = this.#outside;
    code.if(i32.eq(reason, c32(Leave.ENTER)), () => {
      const patienceAt = code.let(i32.add(record, c32(BlockHeader.patience)));
      const patience = code.let(i32.sub(i32.load(patienceAt), c32(1)));
      code.store("i32", patienceAt, 0, patience);
      code.if(i32.lt_s(patience, c32(0)), () => {
        code.store("i32", c32(base + State.region), 0, c32(this.#slot));
        code.store("i64", c32(base + State.regionBase), 0, entryRip);
        code.return(c32(Return.OFTEN));
      });
      code.tailCallIndirect(handlerType, i32.load(record, Record.handler), record);
    });
    code.if(i32.eq(reason, c32(Leave.INTERPRET)), () => {
      const handler = code.let(i32.load(record, Record.handler));
      const own = i32.load(i32.add(record, c32(BlockHeader.handler)));
      const isEntry = i32.eq(handler, c32(this.#slot));
      code.tailCallIndirect(handlerType, choose(isEntry, own, handler), record);
    });
    code.if(i32.eq(reason, c32(Leave.ELSEWHERE)), () => code.tailCall(this.#outside.lookup));
    code.store("i32", c32(base + State.chain), 0, c32(0));
  }

  /** Writes a block's instructions; returns what its branch depends on. */
  #body(index: number, from: number | undefined): I32 | undefined {
    const code = this.#code;
    const { block, distance } = this.#members[index]!;
    let start = 0;
    let record = block.record;
    let condition: I32 | undefined;
    const { flags } = this.#state;
    this.#state.enterBlock(from === undefined ? undefined : this.#flagsAtEnd.get(from));
    for (const { instruction, known } of this.#parts[index]!.steps) {
      this.#look();
      const next = start + instruction.length;
      const mark = code.mark;
      if (known === undefined) {
        // TypeScript does it, and goes on in the interpreter.
        code.store("i32", c32(this.#state.base + State.record), 0, c32(record));
        this.#state.leave(Return.MICROCODE, this.#rip(distance));
        code.releaseSince(mark);
        return undefined;
      }
      const context = new RegionContext(this.#state, known.shape, this.#outside, instruction, {
        record,
        block: distance,
        start,
        next,
      });
      known.meaning(context);
      condition = context.condition;
      // The code behind still needs it.
      code.releaseSince(mark, condition);
      start = next;
      record += Record.size;
    }
    this.#flagsAtEnd.set(index + 1, flags.known);
    return condition;
  }

  /** Leaves, or goes through the dispatcher to a member that the structure does not reach. */
  #leave(index: number, way: number, dispatch: () => void): void {
    const from = this.#members[index]!;
    const { block, distance } = from;
    const { taken, fallThrough } = this.#parts[index]!.edges;
    const to = way === 0 ? (taken ?? fallThrough) : fallThrough;
    // A block that ends in a jump to an address of run time, or in TypeScript, has left already.
    if (to === undefined) return;
    const place = this.#place(from, to);
    if (place >= 0) {
      this.#backEdge(this.#members[place]!, Budget.dispatch);
      this.#code.set(this.#state.next, c32(this.entries.indexOf(this.#members[place]!) + 1));
      dispatch();
    } else this.#state.lookUp(this.#rip(distance + to - block.host));
  }

  /** A jump back costs some of the budget, and looks around when that is used up. */
  #backEdge(to: Member, cost: number): void {
    const { budget } = this.#state;
    const code = this.#code;
    code.set(budget, i32.sub(budget, c32(cost)));
    code.if(i32.lt_s(budget, c32(0)), () => this.#state.leave(Return.BUDGET, this.#rip(to.distance)));
  }

  /** A virtual address by its distance from the region's base. */
  #rip(distance: number): I64 {
    return this.#ripAt(c64(distance));
  }
  #ripAt(distance: I64): I64 {
    const sum = i64.add(this.#state.entryRip, distance);
    const bits = this.#mode & Mode.BITS;
    return bits === 2 ? sum : i64.and(sum, c64(bits === 1 ? 0xffffffff : 0xffff));
  }
}
