/** Random control flow with a dispatcher: from every entry the nested form goes the way that the jumps go. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Random } from "../../testing/random.ts";
import type { I32 } from "../wasm/expr.ts";
import { ModuleBuilder } from "../wasm/module.ts";
import { c32, i32 } from "../wasm/ops.ts";
import { gated } from "./gates.ts";
import type { FlowNode } from "./graph.ts";

const { LODGE_SEED } = process.env;
const seed = LODGE_SEED === undefined ? Date.now() % 1_000_000_000 : Number(LODGE_SEED);
/** How many blocks are visited before the function is stopped. */
const STEPS = 60;

const mix = (hash: number, index: number) => (Math.imul(hash ^ (index + 1), 0x9e3779b1) ^ (hash >>> 7)) | 0;

/** Blocks from 1 on, mostly in the order of their jumps, so that there are loops in loops. */
function randomBlocks(random: Random): FlowNode[] {
  const count = 2 + random.below(12);
  const target = (from: number) => {
    if (random.chance(0.1)) return -1;
    if (random.chance(0.55)) return Math.min(count, from + 1 + random.below(2));
    return 1 + (random.chance(0.8) ? random.below(from) : random.below(count));
  };
  const block = (_: unknown, index: number) => {
    const to = [target(index + 1)];
    return { to: random.chance(0.7) ? [...to, target(index + 1)] : to };
  };
  return [{ to: [] }, ...Array.from({ length: count }, block)];
}

test(`a thousand random graphs are entered wherever loops begin (seed ${seed})`, (t) => {
  let gates = 0;
  for (let round = 0; round < 1000; round++) {
    const what = `LODGE_SEED=${seed}, round ${round}`;
    const random = new Random(seed * 1_000_003 + round);
    const blocks = randomBlocks(random);
    const any = () => 1 + random.below(blocks.length - 1);
    const returns = new Map(random.chance(0.5) ? [[any(), any()]] : []);
    const loose = random.chance(0.5) ? [any()] : [];
    const wanted = new Set([1, ...(random.chance(0.5) ? [any()] : []), ...returns.values()]);
    const { graph, entries } = gated(blocks, { entries: [...wanted], loose, returns });
    for (const block of wanted) assert.ok(entries.includes(block), `${block} is not entered: ${what}`);
    gates += graph.nodes.length - blocks.length;
    const module = new ModuleBuilder();
    const visit = module.importFunction("t", "visit", ["i32"], []);
    const { index, code } = module.function(["i32", "i32"], []);
    const [hash, entry] = code.parameters as unknown as [I32, I32];
    const current = code.let(hash);
    const next = code.let(entry);
    const steps = code.let(c32(STEPS));
    code.block((exit) => {
      code.loop((dispatch) => {
        graph.write(code, {
          body: (block) => {
            if (block === 0 || block >= blocks.length) return next;
            code.call(visit, c32(block));
            code.set(steps, i32.sub(steps, c32(1)));
            code.brIf(exit, i32.eqz(steps));
            const mixed = i32.mul(i32.xor(current, c32(block + 1)), c32(0x9e3779b1));
            code.set(current, i32.xor(mixed, i32.shr_u(current, c32(7))));
            return blocks[block]!.to.length === 1 ? undefined : code.let(i32.and(current, c32(1)));
          },
          leave: (from, way) => {
            const to = blocks[from]!.to[way]!;
            if (to < 0) return code.br(exit);
            assert.ok(entries.includes(to), `${to} is not entered: ${what}`);
            code.set(next, c32(entries.indexOf(to) + 1));
            code.br(dispatch);
          },
          backEdge: () => {},
          passGate: () => code.set(next, c32(0)),
        });
        code.unreachable();
      });
    });
    module.exportFunction("f", index);
    const visited: number[] = [];
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(module.encode()), {
      t: { visit: (block: number) => visited.push(block) },
    });
    for (const [number, first] of entries.entries()) {
      visited.length = 0;
      const start = random.next() | 0;
      (exports.f as (hash: number, entry: number) => void)(start, number + 1);
      const expected: number[] = [];
      let current = start;
      for (let at = first; at > 0 && expected.length < STEPS; ) {
        expected.push(at);
        current = mix(current, at);
        const { to } = blocks[at]!;
        at = to.length === 1 || (current & 1) !== 0 ? to[0]! : to[1]!;
      }
      assert.deepEqual(visited, expected, `entry ${number} of ${JSON.stringify(blocks)}: ${what}`);
    }
  }
  t.diagnostic(`${gates} gates`);
  assert.ok(gates > 100);
});

test("loops keep their form wherever they are entered", () => {
  // 1 (2 (3 4) 5) 6, with a branch around 4.
  const blocks: FlowNode[] = [
    { to: [] },
    { to: [2] },
    { to: [3] },
    { to: [4, 5] },
    { to: [3, 5] },
    { to: [2, 6] },
    { to: [-1] },
  ];
  for (let entry = 1; entry < blocks.length; entry++) {
    const { graph, entries } = gated(blocks, { entries: [1, entry] });
    assert.deepEqual(graph.unkept, [], `entered at ${entry}`);
    assert.ok(entries.includes(entry));
    assert.deepEqual(
      [...graph.loops.keys()].filter((header) => header < blocks.length && header !== 2 && header !== 3),
      [],
    );
  }
});

test("a region that begins within a loop begins where the loop does", () => {
  const loop: FlowNode[] = [{ to: [] }, { to: [2] }, { to: [3] }, { to: [1, -1] }];
  assert.deepEqual(gated(loop, { entries: [], loose: [3] }).entries, [1]);
  assert.deepEqual(gated(loop, { entries: [3] }).entries, [1, 3]);
});

test("a loop keeps its form where some of its turns go by a call", () => {
  // 3 calls 6, which comes back to 4; 5 jumps to 2 or leaves.
  const returns = new Map([[3, 4]]);
  const blocks: FlowNode[] = [0, 2, 3, 6, 5, 2, -1].map((to, block) => ({ to: block === 0 ? [] : [to] }));
  blocks[5] = { to: [2, -1] };
  const { graph, entries } = gated(blocks, { entries: [1, 4], returns });
  assert.deepEqual(graph.unkept, []);
  assert.equal(graph.nodes.length, blocks.length, "no gate");
  assert.deepEqual(entries, [1, 4]);
  // With a way around the call that is different.
  blocks[2] = { to: [5, 3] };
  const around = gated(blocks, { entries: [1, 4], returns });
  assert.deepEqual(around.graph.unkept, []);
  assert.deepEqual(around.entries, [1, 4, 2]);
});

test("of a loop with two ways in, the jump that skips code goes by the dispatcher", () => {
  // A switch in a loop: 1 branches to 3, or jumps through a register; cases 4 and 5 join the loop at 2 and 3.
  const blocks: FlowNode[] = [{ to: [] }, { to: [3, -1] }, { to: [1] }, { to: [2] }, { to: [2] }, { to: [3] }];
  for (const cases of [
    [4, 5],
    [5, 4],
  ]) {
    const { graph, entries } = gated(blocks, { entries: cases, loose: [1] });
    assert.deepEqual(graph.unkept, []);
    assert.deepEqual(graph.nodes[1]!.to, [-1, -1]);
    assert.ok(entries.includes(3));
  }
});

test("recursion is no loop to go around by gates", () => {
  // A function 1 that calls itself in 2 and 4, which come back to 4 and 5; 3 returns.
  const blocks: FlowNode[] = [{ to: [] }, { to: [3, 2] }, { to: [1] }, { to: [-1] }, { to: [1] }, { to: [3] }];
  const returns = new Map([
    [2, 4],
    [4, 5],
  ]);
  const { graph, entries } = gated(blocks, { entries: [1, 4, 5], returns });
  assert.deepEqual(graph.unkept, []);
  assert.equal(graph.nodes.length, blocks.length, "no gate");
  assert.deepEqual(entries.toSorted(), [1, 4, 5]);
});
