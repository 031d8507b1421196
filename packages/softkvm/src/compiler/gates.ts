/**
 * Ways into the middle of loops that leave the loops their form. A region is entered where loops begin, inner ones too, as a
 * budget may have ended there, where calls come back to, and at targets of jumps through registers. By a jump of the
 * dispatcher's, a loop would be one that its beginning is not the only way into, and each of its turns would go through the
 * dispatcher. So the dispatcher goes to the outermost loop's beginning, where a gate sends on what has an entry's number,
 * from gate to gate; jumps of the loop pass them with the number 0.
 */

import { type Look, noLook } from "./given-up.ts";
import { FlowGraph, type FlowNode } from "./graph.ts";

export interface Gated {
  /** Blocks as they were, with gates behind. Ways of the table and of gates are the numbers of entries, from 1 on. */
  readonly graph: FlowGraph;
  /** Blocks by the numbers of entries, from 1 on. */
  readonly entries: readonly number[];
}

/** Where a region is to be entered. */
export interface Wanted {
  readonly entries: readonly number[];
  /** The same, unless a loop is around: the guest was found there, and comes to the loop's beginning soon. */
  readonly loose?: readonly number[];
  /** By blocks that end with a call: the one that the call comes back to. */
  readonly returns?: ReadonlyMap<number, number>;
}

/**
 * `all`: blocks from 1 on, in the order of their addresses, which the table, block 0, enters at what is wanted, and
 * wherever else jumps have no structured form.
 */
export function gated(
  all: readonly FlowNode[],
  { entries, loose = [], returns = new Map() }: Wanted,
  look: Look = noLook,
): Gated {
  // What a call comes back to is in the loops that the call is in, whatever it does meanwhile.
  const withReturns = (nodes: readonly FlowNode[]) =>
    nodes.map(({ to }, index): FlowNode => {
      const back = returns.get(index);
      return { to: back === undefined ? to : [...to, back] };
    });
  const roots = new Set(rootsOf(withReturns(all), [...entries, ...loose]));
  const { nodes, targets } = withoutRareJumps(all, (some) => {
    look();
    return graphOf(roots, withReturns(some));
  });
  const whole = withReturns(nodes);
  for (;;) {
    look();
    const count = roots.size;
    const plain = graphOf(roots, whole);
    for (const block of plain.unkept) roots.add(block);
    if (roots.size > count) continue;
    // Where each turn goes by a call, the dispatcher is on the way in any case.
    const jumps = nodes.map((node, index) => (returns.has(index) ? { to: [] } : node));
    const loops = new Map([...plain.loops].filter(([header, body]) => isTurned(jumps, header, body)));
    const isInside = (block: number) => [...loops.values()].some((body) => body.has(block));
    const others = new Set([...entries, ...targets, ...loose.filter((block) => !isInside(block)), ...loops.keys()]);
    const made = withGates(nodes, [...roots], [...others.difference(roots)], loops);
    // More ways in may leave more jumps without one.
    for (const block of made.graph.unkept) if (block < nodes.length && !made.entries.includes(block)) roots.add(block);
    if (roots.size === count) return made;
  }
}

function graphOf(roots: Iterable<number>, nodes: readonly FlowNode[]): FlowGraph {
  return new FlowGraph([{ to: [...roots], isTable: true }, ...nodes.slice(1)]);
}

/** How many jumps are tried. */
const MOST_TRIED = 16;

/**
 * Where a loop has several ways in, some jump has to go by the dispatcher: rather one that skips code under a condition than
 * one that each turn goes by. `targets`: where the jumps lead that are left out.
 */
function withoutRareJumps(
  nodes: readonly FlowNode[],
  graph: (nodes: readonly FlowNode[]) => FlowGraph,
): { nodes: readonly FlowNode[]; targets: number[] } {
  const targets: number[] = [];
  const whole = graph(nodes);
  const { length } = whole.order;
  let best = { nodes, unkept: whole.unkept.length };
  for (let improved = true; improved && best.unkept > 0; ) {
    improved = false;
    const rare = best.nodes.flatMap(({ to }, from) => (to.length === 2 && to[0]! > from ? [from] : []));
    const turns = rare.filter((from) => closure(best.nodes[from]!.to[0]!, (at) => best.nodes[at]!.to).has(from));
    const current = best.nodes;
    for (const from of turns.slice(0, MOST_TRIED)) {
      const without = current.map((node, index) => (index === from ? { to: [-1, node.to[1]!] } : node));
      const tried = graph(without);
      if (tried.order.length < length || tried.unkept.length >= best.unkept) continue;
      best = { nodes: without, unkept: tried.unkept.length };
      improved = true;
    }
    if (improved)
      for (const [from, { to }] of current.entries()) if (best.nodes[from]!.to[0] !== to[0]) targets.push(to[0]!);
  }
  return { nodes: best.nodes, targets };
}

/**
 * As few blocks as all others are reached from: those that no jump leads to, and of blocks that lead to each other, and
 * nothing else to them, the first one, where mostly the outermost loop begins.
 */
function rootsOf(nodes: readonly FlowNode[], wanted: readonly number[]): number[] {
  const { order } = graphOf(wanted, nodes);
  const before = nodes.map((): number[] => []);
  for (const from of order) {
    if (from !== 0) for (const to of nodes[from]!.to) if (to >= 0) before[to]!.push(from);
  }
  const roots: number[] = [];
  const reached = new Set([0]);
  for (const block of order) {
    if (reached.has(block)) continue;
    // What can reach the first one in reverse postorder that is not reached yet, it can reach itself.
    const root = Math.min(...closure(block, (at) => before[at]!));
    roots.push(root);
    for (const each of closure(root, (at) => nodes[at]!.to)) reached.add(each);
  }
  return roots;
}

/** Whether jumps within a loop lead back to its beginning, without calls. */
function isTurned(nodes: readonly FlowNode[], header: number, body: ReadonlySet<number>): boolean {
  const within = (from: number) => nodes[from]!.to.filter((to) => body.has(to));
  return within(header).some((to) => closure(to, within).has(header));
}

function closure(start: number, next: (block: number) => readonly number[]): Set<number> {
  const found = new Set([start]);
  // What is added meanwhile is visited, too.
  for (const block of found) for (const to of next(block)) if (to >= 0) found.add(to);
  return found;
}

/** `roots`: entered by the table, as they were when the loops were found. `others`: by gates where they are in loops. */
function withGates(
  nodes: readonly FlowNode[],
  roots: readonly number[],
  others: readonly number[],
  loops: ReadonlyMap<number, ReadonlySet<number>>,
): Gated {
  const entries = [...roots, ...others];
  const outwards = [...loops].sort(([, one], [, other]) => one.size - other.size);
  /** Where the loops begin that a block is in, its own left out: outermost first. */
  const around = (block: number) =>
    outwards.flatMap(([header, body]) => (header !== block && body.has(block) ? [header] : [])).reverse();

  const gates = new Map<number, number>();
  const ways = new Map<number, number[]>();
  const table = [...entries];
  for (const [index, entry] of entries.entries()) {
    if (index < roots.length) continue;
    const path = around(entry);
    for (const [depth, header] of path.entries()) {
      if (!gates.has(header)) {
        gates.set(header, nodes.length + gates.size);
        ways.set(header, [header, ...entries.map(() => -1)]);
      }
      ways.get(header)![index + 1] = path[depth + 1] ?? entry;
    }
    if (path.length > 0) table[index] = path[0]!;
  }
  const through = (block: number) => gates.get(block) ?? block;
  const all: FlowNode[] = nodes.map(({ to }) => ({ to: to.map(through) }));
  all[0] = { to: [table[0]!, ...table].map(through), isTable: true };
  for (const header of gates.keys()) {
    const [own, ...inner] = ways.get(header)!;
    all.push({ to: [own!, ...inner.map(through)], isGate: true });
  }
  return { graph: new FlowGraph(all), entries };
}
