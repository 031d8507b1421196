/**
 * Ways into the middle of loops that leave the loops their form. A region is entered where loops begin, inner ones too, as a
 * budget may have ended there. By a jump of the dispatcher's, an inner loop would be one that the outer loop's beginning does
 * not lead to, and the outer loop none. So the dispatcher goes to the outer loop's beginning, where a gate sends on what
 * has an entry's number, from gate to gate; jumps of the loop pass them with the number 0.
 */

import { FlowGraph, type FlowNode } from "./graph.ts";

export interface Gated {
  /** Blocks as they were, with gates behind. Ways of the table and of gates are the numbers of entries, from 1 on. */
  readonly graph: FlowGraph;
  /** Blocks by the numbers of entries, from 1 on: those that were asked for, then where loops begin. */
  readonly entries: readonly number[];
}

/** `nodes`: blocks from 1 on, which the table, block 0, enters at `wanted`, and wherever else jumps have no structured form. */
export function gated(nodes: readonly FlowNode[], wanted: readonly number[]): Gated {
  const all = new Set(wanted);
  for (;;) {
    const count = all.size;
    const plain = new FlowGraph([{ to: [...all], isTable: true }, ...nodes.slice(1)]);
    for (const block of plain.unkept) all.add(block);
    if (all.size > count) continue;
    const made = withGates(nodes, [...all], plain.loops);
    // More ways in may leave more jumps without one.
    for (const block of made.graph.unkept) if (block < nodes.length && !made.entries.includes(block)) all.add(block);
    if (all.size === count) return made;
  }
}

function withGates(
  nodes: readonly FlowNode[],
  wanted: readonly number[],
  loops: ReadonlyMap<number, ReadonlySet<number>>,
): Gated {
  const entries = [...wanted, ...[...loops.keys()].filter((header) => !wanted.includes(header))];
  const outwards = [...loops].sort(([, one], [, other]) => one.size - other.size);
  /** Where the loops begin that a block is in, its own left out: outermost first. */
  const around = (block: number) =>
    outwards.flatMap(([header, body]) => (header !== block && body.has(block) ? [header] : [])).reverse();

  const gates = new Map<number, number>();
  const ways = new Map<number, number[]>();
  const table = [...entries];
  for (const [index, entry] of entries.entries()) {
    // What is asked for is entered by the table, as it was when the loops were found.
    if (index < wanted.length) continue;
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
    const [own, ...others] = ways.get(header)!;
    all.push({ to: [own!, ...others.map(through)], isGate: true });
  }
  return { graph: new FlowGraph(all), entries };
}
