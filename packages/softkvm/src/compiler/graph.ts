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

/** What only the graph that is written needs to know. */
interface Form {
  /** By block: those that it immediately dominates. */
  readonly children: ReadonlyMap<number, number[]>;
  readonly isLoop: ReadonlySet<number>;
  readonly isMerge: ReadonlySet<number>;
}

/** What is known of it is found out when it is asked for: a region tries some graphs of which little is. */
export class FlowGraph {
  /** Blocks that can be reached, in reverse postorder, and each one's place in it. */
  readonly order: number[] = [];
  readonly #place: number[];
  readonly nodes: readonly FlowNode[];
  /** What is visited first comes last: a branch's taken side first. */
  readonly #successors: number[][];
  /** Immediate dominators: places by places. */
  #dominator: Int32Array | undefined;
  #before: number[][] | undefined;
  #form: Form | undefined;

  constructor(nodes: readonly FlowNode[]) {
    this.nodes = nodes;
    this.#place = nodes.map(() => -1);
    this.#successors = nodes.map(({ to }) => {
      const ways: number[] = [];
      for (let way = to.length - 1; way >= 0; way--) if (to[way]! >= 0) ways.push(to[way]!);
      return ways;
    });
    this.#number();
  }

  /** Writes the whole region into `code`. */
  write(code: Code, writer: FlowWriter): void {
    const { children, isLoop, isMerge } = this.#formOf();
    const labels = new Map<number, Label>();
    const loops = new Map<number, Label>();

    const tree = (index: number, from: number | undefined): void => {
      const merges = (children.get(index) ?? []).filter((child) => isMerge.has(child));
      // The one that comes last is opened first.
      merges.sort((one, other) => this.#place[other]! - this.#place[one]!);
      if (!isLoop.has(index)) {
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
      } else if (isMerge.has(to)) code.br(labels.get(to)!);
      else tree(to, from);
    };

    tree(0, undefined);
  }

  /** The loops by the block that jumps lead back to, which is in it like all from which such jumps are reached. */
  get loops(): ReadonlyMap<number, ReadonlySet<number>> {
    const before = this.#predecessors();
    const loops = new Map<number, Set<number>>();
    for (const header of this.#formOf().isLoop) {
      const body = new Set([header]);
      const ends = before[header]!.filter((from) => this.#isBack(from, header) && this.#dominates(header, from));
      for (let block = ends.pop(); block !== undefined; block = ends.pop()) {
        if (body.has(block)) continue;
        body.add(block);
        ends.push(...before[block]!);
      }
      loops.set(header, body);
    }
    return loops;
  }

  /** Blocks that jumps lead back to in ways that have no structured form: into the middle of a loop. */
  get unkept(): number[] {
    const found = new Set<number>();
    for (const from of this.order) {
      for (const to of this.#successors[from]!) if (!this.#isKept(from, to)) found.add(to);
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
    this.#dominator ??= this.#dominators();
    const place = this.#place[one]!;
    let at = this.#place[other]!;
    while (at > place) at = this.#dominator[at]!;
    return at === place;
  }

  /** Numbers the blocks in reverse postorder, without recursion: a guest decides how long chains are. */
  #number(): void {
    const seen = this.nodes.map(() => false);
    seen[0] = true;
    const stack = [{ index: 0, ways: this.#successors[0]!, next: 0 }];
    for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
      const to = top.ways[top.next++];
      if (to === undefined) {
        this.order.push(top.index);
        stack.pop();
      } else if (!seen[to]) {
        seen[to] = true;
        stack.push({ index: to, ways: this.#successors[to]!, next: 0 });
      }
    }
    this.order.reverse();
    for (const [place, index] of this.order.entries()) this.#place[index] = place;
  }

  /** By block, in the order of the blocks that lead there. */
  #predecessors(): number[][] {
    if (this.#before !== undefined) return this.#before;
    const before = this.nodes.map((): number[] => []);
    for (const index of this.order) for (const to of this.#successors[index]!) before[to]!.push(index);
    this.#before = before;
    return before;
  }

  /** Cooper, Harvey and Kennedy's "A Simple, Fast Dominance Algorithm", on places: a dominator's is the lower one. */
  #dominators(): Int32Array {
    const { order } = this;
    const dominator = new Int32Array(order.length).fill(-1);
    dominator[0] = 0;
    const before = this.#predecessors();
    for (let changed = true; changed; ) {
      changed = false;
      for (let place = 1; place < order.length; place++) {
        let found = -1;
        for (const from of before[order[place]!]!) {
          let other = this.#place[from]!;
          if (dominator[other]! < 0) continue;
          if (found < 0) found = other;
          while (found !== other) {
            if (found > other) found = dominator[found]!;
            else other = dominator[other]!;
          }
        }
        if (dominator[place] === found) continue;
        dominator[place] = found;
        changed = true;
      }
    }
    return dominator;
  }

  #formOf(): Form {
    this.#form ??= this.#classify();
    return this.#form;
  }

  #classify(): Form {
    this.#dominator ??= this.#dominators();
    const children = new Map<number, number[]>();
    const isLoop = new Set<number>();
    const isMerge = new Set<number>();
    const forward = new Map<number, number>();
    for (const [place, index] of this.order.entries()) {
      if (place !== 0) {
        const parent = this.order[this.#dominator[place]!]!;
        const others = children.get(parent);
        if (others === undefined) children.set(parent, [index]);
        else others.push(index);
      }
      for (const to of this.#successors[index]!) {
        if (!this.#isBack(index, to)) forward.set(to, (forward.get(to) ?? 0) + 1);
        else if (this.#dominates(to, index)) isLoop.add(to);
      }
    }
    for (const [index, count] of forward) if (count > 1) isMerge.add(index);
    // A table needs labels.
    for (const { to, isTable, isGate } of this.nodes) {
      if (isTable || isGate) for (const target of to.slice(isGate ? 1 : 0)) isMerge.add(target);
    }
    return { children, isLoop, isMerge };
  }
}
