/** NUMA: how a machine's memory and vCPUs are divided into nodes. */

import type { RamPiece } from "@lodge/devices";
import type { NodeLayout } from "../acpi/tables.ts";

export interface NumaNode {
  /** The vCPUs of the node, by number. */
  readonly cpus: readonly number[];
  /** Its memory in bytes. Nodes have theirs in order of guest physical addresses. */
  readonly memoryBytes: number;
  /** How far it is to each node, from 10 for itself to 254. Default: 20 to the others. */
  readonly distances?: readonly number[];
}

/** Takes each node's memory off the pieces, in order. The sums are right: `checkDescription` has seen to that. */
export function layOutNodes(nodes: readonly NumaNode[], pieces: readonly RamPiece[]): NodeLayout[] {
  const rest = pieces.map(({ gpa, sizeBytes }) => ({ start: gpa, sizeBytes }));
  return nodes.map(({ cpus, memoryBytes, distances }, own) => {
    const memory: { start: number; sizeBytes: number }[] = [];
    for (let wanted = memoryBytes; wanted > 0; ) {
      const piece = rest[0]!;
      const sizeBytes = Math.min(wanted, piece.sizeBytes);
      memory.push({ start: piece.start, sizeBytes });
      piece.start += sizeBytes;
      piece.sizeBytes -= sizeBytes;
      if (piece.sizeBytes === 0) rest.shift();
      wanted -= sizeBytes;
    }
    return { cpus, memory, distances: distances ?? nodes.map((_, other) => (other === own ? 10 : 20)) };
  });
}

/** What is wrong with a division into nodes; undefined for nothing. */
export function nodesFault(nodes: readonly NumaNode[], memoryBytes: number, cpuCount: number): string | undefined {
  const sum = nodes.reduce((total, node) => total + node.memoryBytes, 0);
  if (sum !== memoryBytes) return `the nodes have ${sum} bytes of memory, and the machine ${memoryBytes}`;
  if (nodes.some((node) => node.memoryBytes % 4096 !== 0 || node.memoryBytes < 0)) {
    return "a node's memory is a multiple of 4 KiB";
  }
  const cpus = nodes.flatMap((node) => node.cpus).toSorted((a, b) => a - b);
  if (cpus.length !== cpuCount || cpus.some((cpu, index) => cpu !== index)) {
    return `the nodes have the vCPUs ${cpus.join(", ") || "(none)"}; each of 0 to ${cpuCount - 1} is in one`;
  }
  for (const [own, { distances }] of nodes.entries()) {
    if (distances === undefined) continue;
    const inRange = distances.every((value, other) => (other === own ? value === 10 : value > 10 && value < 255));
    if (distances.length !== nodes.length || !inRange) {
      return `node ${own} has distances ${distances.join(", ")}: 10 to itself, 11 to 254 to each other`;
    }
  }
  return undefined;
}
