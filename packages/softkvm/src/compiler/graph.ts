/**
 * The control flow of a region as WebAssembly needs it: nested blocks and loops instead of jumps. The way from one to the
 * other is by the dominator tree (Ramsey, "Beyond Relooper", 2022): a block that several jumps lead forward to comes
 * behind a WebAssembly block that its immediate dominator opens; a block that jumps lead back to opens a loop.
 */

import type { Code, Label } from "../wasm/code.ts";
import type { I32 } from "../wasm/expr.ts";
import { i32 } from "../wasm/ops.ts";

/**
 * A block of the region and where it leads: indexes of other blocks, -1 for the way out. With one way on it jumps, with two
 * it branches (the taken side is the first). Block 0 is the entry; it may be a table of any number of ways. So may gates (see
 * gates.ts): the first way is that of jumps, which -1 stands for among the others.
 */
export interface FlowNode {
  readonly to: readonly number[];
  readonly isTable?: boolean;
  readonly isGate?: boolean;
}

/** What writes the code of the blocks. */
export interface FlowWriter {
  /**
   * Writes block `index` up to its branch; returns the branch's condition if it has two ways, the way's number if it is
   * the table or a gate. `from`: the block that this one comes right behind in the code, if there is no other way to it.
   */
  body(index: number, from: number | undefined): I32 | undefined;
  /** Writes a way out of the region, or to a block that the structure does not reach: see {@link FlowGraph.unkept}. */
  leave(from: number, way: number): void;
  /** Writes what a jump back costs: the budget. */
  backEdge(from: number, to: number): void;
  /** Makes the way's number 0, for a jump to a gate. */
  passGate(): void;
}

export class FlowGraph {
  /** Blocks that can be reached, in reverse postorder, and each one's place in it. */
  readonly order: number[] = [];
  readonly #place: number[];
  readonly nodes: readonly FlowNode[];
  /** Immediate dominators, by block. */
  readonly #dominator: number[];
  readonly #children = new Map<number, number[]>();
  readonly #isLoop = new Set<number>();
  readonly #isMerge = new Set<number>();

  constructor(nodes: readonly FlowNode[]) {
    this.nodes = nodes;
    this.#place = nodes.map(() => -1);
    this.#number();
    this.#dominator = this.#dominators();
    this.#classify();
  }

  /** Writes the whole region into `code`. */
  write(code: Code, writer: FlowWriter): void {
    const labels = new Map<number, Label>();
    const loops = new Map<number, Label>();

    const tree = (index: number, from: number | undefined): void => {
      const merges = (this.#children.get(index) ?? []).filter((child) => this.#isMerge.has(child));
      // The one that comes last is opened first.
      merges.sort((one, other) => this.#place[other]! - this.#place[one]!);
      if (!this.#isLoop.has(index)) {
        within(index, from, merges, 0);
        return;
      }
      code.loop((again) => {
        loops.set(index, again);
        within(index, undefined, merges, 0);
      });
    };

    const within = (index: number, from: number | undefined, merges: readonly number[], next: number): void => {
      const merge = merges[next];
      if (merge === undefined) {
        end(index, writer.body(index, from));
        return;
      }
      code.block((label) => {
        labels.set(merge, label);
        within(index, from, merges, next + 1);
      });
      tree(merge, undefined);
    };

    const end = (index: number, selector: I32 | undefined): void => {
      const { to, isTable, isGate } = this.nodes[index]!;
      if (isGate) {
        code.block((through) => {
          code.brIf(through, i32.eqz(selector!), true);
          const targets = to.map((target, way) => (way === 0 || target < 0 ? through : labels.get(target)!));
          code.brTable(targets, through, selector!);
        });
        branch(index, 0);
      } else if (isTable) {
        const targets = to.map((target) => labels.get(target)!);
        code.brTable(targets.slice(0, -1), targets.at(-1)!, selector!);
      } else if (to.length < 2 || selector === undefined) branch(index, 0);
      else {
        code.if(
          selector,
          () => branch(index, 0),
          () => branch(index, 1),
        );
      }
    };

    const branch = (from: number, way: number): void => {
      const to = this.nodes[from]!.to[way] ?? -1;
      if (to < 0 || !this.#isKept(from, to)) {
        writer.leave(from, way);
        return;
      }
      const isBack = this.#isBack(from, to);
      if (isBack) writer.backEdge(from, to);
      if (this.nodes[to]!.isGate) writer.passGate();
      if (isBack) {
        code.br(loops.get(to)!);
      } else if (this.#isMerge.has(to)) code.br(labels.get(to)!);
      else tree(to, from);
    };

    tree(0, undefined);
  }

  /** The loops by the block that jumps lead back to, which is in it like all from which such jumps are reached. */
  get loops(): ReadonlyMap<number, ReadonlySet<number>> {
    const before = this.#predecessors();
    const loops = new Map<number, Set<number>>();
    for (const header of this.#isLoop) {
      const body = new Set([header]);
      const ends = before.get(header)!.filter((from) => this.#isBack(from, header) && this.#dominates(header, from));
      for (let block = ends.pop(); block !== undefined; block = ends.pop()) {
        if (body.has(block)) continue;
        body.add(block);
        ends.push(...before.get(block)!);
      }
      loops.set(header, body);
    }
    return loops;
  }

  /** Blocks that jumps lead back to in ways that have no structured form: into the middle of a loop. */
  get unkept(): number[] {
    const found = new Set<number>();
    for (const from of this.order) {
      for (const to of this.#successors(from)) if (!this.#isKept(from, to)) found.add(to);
    }
    return [...found];
  }

  #isBack(from: number, to: number): boolean {
    return this.#place[to]! <= this.#place[from]!;
  }

  /** A jump back into the middle of a loop has no structured form; it leaves the region instead. */
  #isKept(from: number, to: number): boolean {
    return !this.#isBack(from, to) || this.#dominates(to, from);
  }

  #dominates(one: number, other: number): boolean {
    let at = other;
    while (this.#place[at]! > this.#place[one]!) at = this.#dominator[at]!;
    return at === one;
  }

  #successors(index: number): number[] {
    // What is visited first comes last: a branch's taken side first.
    return this.nodes[index]!.to.filter((to) => to >= 0).reverse();
  }

  /** Numbers the blocks in reverse postorder, without recursion: a guest decides how long chains are. */
  #number(): void {
    const seen = new Set([0]);
    const stack = [{ index: 0, ways: this.#successors(0), next: 0 }];
    for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
      const to = top.ways[top.next++];
      if (to === undefined) {
        this.order.push(top.index);
        stack.pop();
      } else if (!seen.has(to)) {
        seen.add(to);
        stack.push({ index: to, ways: this.#successors(to), next: 0 });
      }
    }
    this.order.reverse();
    for (const [place, index] of this.order.entries()) this.#place[index] = place;
  }

  #predecessors(): Map<number, number[]> {
    const before = new Map<number, number[]>();
    for (const index of this.order) {
      for (const to of this.#successors(index)) {
        const known = before.get(to);
        if (known === undefined) before.set(to, [index]);
        else known.push(index);
      }
    }
    return before;
  }

  /** Cooper, Harvey and Kennedy's "A Simple, Fast Dominance Algorithm". */
  #dominators(): number[] {
    const dominator = this.nodes.map(() => -1);
    dominator[0] = 0;
    const before = this.#predecessors();
    const meet = (one: number, other: number): number => {
      let a = one;
      let b = other;
      while (a !== b) {
        while (this.#place[a]! > this.#place[b]!) a = dominator[a]!;
        while (this.#place[b]! > this.#place[a]!) b = dominator[b]!;
      }
      return a;
    };
    for (let changed = true; changed; ) {
      changed = false;
      for (const index of this.order.slice(1)) {
        const known = before.get(index)!.filter((from) => dominator[from]! >= 0);
        const found = known.reduce(meet);
        if (dominator[index] === found) continue;
        dominator[index] = found;
        changed = true;
      }
    }
    return dominator;
  }

  #classify(): void {
    const forward = new Map<number, number>();
    for (const index of this.order) {
      if (index !== 0) {
        const parent = this.#dominator[index]!;
        this.#children.set(parent, [...(this.#children.get(parent) ?? []), index]);
      }
      for (const to of this.#successors(index)) {
        if (!this.#isBack(index, to)) forward.set(to, (forward.get(to) ?? 0) + 1);
        else if (this.#dominates(to, index)) this.#isLoop.add(to);
      }
    }
    for (const [index, count] of forward) if (count > 1) this.#isMerge.add(index);
    // A table needs labels.
    for (const { to, isTable, isGate } of this.nodes) {
      if (isTable || isGate) for (const target of to.slice(isGate ? 1 : 0)) this.#isMerge.add(target);
    }
  }
}
