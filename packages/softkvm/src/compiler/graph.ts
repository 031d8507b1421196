/**
 * The control flow of a region as WebAssembly needs it: nested blocks and loops instead of jumps. The way from one to the
 * other is by the dominator tree (Ramsey, "Beyond Relooper", 2022): a block that several jumps lead forward to comes
 * behind a WebAssembly block that its immediate dominator opens; a block that jumps lead back to opens a loop.
 */

import type { Code, Label } from "../wasm/code.ts";
import type { I32 } from "../wasm/expr.ts";

/** A block of the region; edges are indexes of other blocks, -1 for the way out. Block 0 is the entry. */
export interface FlowNode {
  /** Where a taken branch, or the only way on, leads. */
  readonly taken: number;
  /** Where a branch that is not taken leads; undefined when there is only one way. */
  readonly fallThrough: number | undefined;
}

/** What writes the code of the blocks. */
export interface FlowWriter {
  /** Writes block `index` up to its branch; returns the branch's condition if it has two ways. */
  body(index: number): I32 | undefined;
  /** Writes a way out of the region, from block `from` over its taken or its other side. */
  leave(from: number, taken: boolean): void;
  /** Writes what a jump back costs: the budget. */
  backEdge(from: number, to: number): void;
}

export class FlowGraph {
  /** Blocks that can be reached, in reverse postorder, and each one's place in it. */
  readonly order: number[] = [];
  readonly #place: number[];
  readonly #nodes: readonly FlowNode[];
  /** Immediate dominators, by block. */
  readonly #dominator: number[];
  readonly #children = new Map<number, number[]>();
  readonly #isLoop = new Set<number>();
  readonly #isMerge = new Set<number>();

  constructor(nodes: readonly FlowNode[]) {
    this.#nodes = nodes;
    this.#place = nodes.map(() => -1);
    this.#number();
    this.#dominator = this.#dominators();
    this.#classify();
  }

  /** Writes the whole region into `code`. */
  write(code: Code, writer: FlowWriter): void {
    const labels = new Map<number, Label>();
    const loops = new Map<number, Label>();

    const tree = (index: number): void => {
      const merges = (this.#children.get(index) ?? []).filter((child) => this.#isMerge.has(child));
      // The one that comes last is opened first.
      merges.sort((one, other) => this.#place[other]! - this.#place[one]!);
      if (!this.#isLoop.has(index)) {
        within(index, merges, 0);
        return;
      }
      code.loop((again) => {
        loops.set(index, again);
        within(index, merges, 0);
      });
    };

    const within = (index: number, merges: readonly number[], next: number): void => {
      const merge = merges[next];
      if (merge === undefined) {
        end(index, writer.body(index));
        return;
      }
      code.block((label) => {
        labels.set(merge, label);
        within(index, merges, next + 1);
      });
      tree(merge);
    };

    const end = (index: number, condition: I32 | undefined): void => {
      const { taken, fallThrough } = this.#nodes[index]!;
      if (condition === undefined || fallThrough === undefined) {
        branch(index, taken, true);
        return;
      }
      code.if(
        condition,
        () => branch(index, taken, true),
        () => branch(index, fallThrough, false),
      );
    };

    const branch = (from: number, to: number, taken: boolean): void => {
      if (to < 0 || !this.#isKept(from, to)) {
        writer.leave(from, taken);
        return;
      }
      if (this.#isBack(from, to)) {
        writer.backEdge(from, to);
        code.br(loops.get(to)!);
      } else if (this.#isMerge.has(to)) code.br(labels.get(to)!);
      else tree(to);
    };

    tree(0);
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
    const { taken, fallThrough } = this.#nodes[index]!;
    return [fallThrough, taken].filter((to): to is number => to !== undefined && to >= 0);
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

  /** Cooper, Harvey and Kennedy's "A Simple, Fast Dominance Algorithm". */
  #dominators(): number[] {
    const dominator = this.#nodes.map(() => -1);
    dominator[0] = 0;
    const before = new Map<number, number[]>();
    for (const index of this.order) {
      for (const to of this.#successors(index)) before.set(to, [...(before.get(to) ?? []), index]);
    }
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
  }
}
