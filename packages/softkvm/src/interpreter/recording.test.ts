/** What a recording counts against its bounds. */

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Block } from "./block.ts";
import { ModuleCode } from "./module-code.ts";
import { Recording } from "./recording.ts";
import type { Region } from "./regions.ts";

const MIB = 2 ** 20;
const NOTHING = [0, 0] as const;

function recorded(recording: Recording, host: number): Block {
  const at = { host, length: 2, mode: 2, record: 0x8000 + host, count: 1, secondPage: -1 };
  const block: Block = { ...at, edges: {}, region: undefined };
  recording.decoded(block, NOTHING);
  return block;
}

function region(slot: number, blocks: readonly Block[]): Region {
  const members = blocks.map((block) => ({ block, distance: block.host }));
  return { slot, members, seeds: [members[0]!], entries: [members[0]!] };
}

test("a region that grows again and again counts once, others each", () => {
  const recording = new Recording(new DataView(new ArrayBuffer(0x10000)));
  const blocks = Array.from({ length: 64 }, (_, index) => recorded(recording, 2 * index));
  for (let size = 1; size <= blocks.length; size++) {
    recording.compiled(region(size, blocks.slice(0, size)), new ModuleCode(new Uint8Array(MIB)));
    assert.equal(recording.isFull, false, `of ${size} blocks`);
  }
  for (let others = 1; !recording.isFull; others++) {
    assert.ok(others < 16, "one MiB each");
    recording.compiled(
      region(100 + others, [recorded(recording, 0x1000 + 2 * others)]),
      new ModuleCode(new Uint8Array(MIB)),
    );
  }
});

test("a region with blocks that the newer one has not stays beside it", () => {
  const recording = new Recording(new DataView(new ArrayBuffer(0x10000)));
  const [one, two, three] = [0, 2, 4].map((host) => recorded(recording, host));
  recording.compiled(region(1, [one!, two!]), new ModuleCode(new Uint8Array(9 * MIB)));
  recording.compiled(region(2, [two!, three!]), new ModuleCode(new Uint8Array(6 * MIB)));
  assert.equal(recording.isFull, false);
  recording.compiled(region(3, [one!]), new ModuleCode(new Uint8Array(MIB)));
  assert.equal(recording.isFull, true);
});
