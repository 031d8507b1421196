/** Random control flow: the nested form goes the way that the jumps go. */

import assert from "node:assert/strict";
import { test } from "node:test";
import type { I32 } from "../wasm/expr.ts";
import { ModuleBuilder } from "../wasm/module.ts";
import { c32, i32 } from "../wasm/ops.ts";
import { FlowGraph, type FlowNode } from "./graph.ts";

/** How many blocks a walk visits before it is stopped: by the budget of jumps back, or at a way out. */
const BUDGET = 40;

/** Each block mixes its number into a hash, which also decides its branch. */
const mix = (hash: number, index: number) => (Math.imul(hash ^ (index + 1), 0x9e3779b1) ^ (hash >>> 7)) | 0;

function randomGraph(random: () => number): FlowNode[] {
  const count = 1 + Math.floor(random() * 12);
  const target = () => Math.floor(random() * (count + 1)) - 1;
  return Array.from({ length: count }, () => ({ to: random() < 0.7 ? [target(), target()] : [target()] }));
}

/** Walks the jumps. Where the structured form leaves although the jump goes on, the caller says so. */
function walk(nodes: readonly FlowNode[], seed: number, leaves: Set<string>): string {
  let hash = seed;
  let at = 0;
  const path: number[] = [];
  for (let steps = 0; steps < 10_000; steps++) {
    path.push(at);
    hash = mix(hash, at);
    const ways = nodes[at]!.to;
    const way = ways.length === 1 || (hash & 1) !== 0 ? 0 : 1;
    const to = ways[way]!;
    if (to < 0 || leaves.has(`${at} ${way}`)) break;
    at = to;
  }
  return `${path.slice(0, 12).join()} ${hash}`;
}

test("a thousand random graphs run as their jumps say", () => {
  for (let round = 0; round < 1000; round++) {
    let state = round * 2654435761;
    const random = () => {
      state = (Math.imul(state, 1103515245) + 12345) | 0;
      return (state >>> 8) / 2 ** 24;
    };
    const nodes = randomGraph(random);
    const module = new ModuleBuilder();
    const trace = module.importFunction("t", "visit", ["i32"], []);
    const { index, code } = module.function(["i32"], ["i32"]);
    const hash = code.parameters[0] as I32;
    const current = code.let(hash);
    const budget = code.let(c32(BUDGET));
    // Jumps into the middle of a loop leave: those that no dominator allows.
    const leaves = new Set<string>();
    code.block((exit) => {
      new FlowGraph(nodes).write(code, {
        body: (block) => {
          code.call(trace, c32(block));
          const mixed = i32.mul(i32.xor(current, c32(block + 1)), c32(0x9e3779b1));
          code.set(current, i32.xor(mixed, i32.shr_u(current, c32(7))));
          return nodes[block]!.to.length === 1 ? undefined : code.let(i32.and(current, c32(1)));
        },
        leave: (from, way) => {
          if (nodes[from]!.to[way]! >= 0) leaves.add(`${from} ${way}`);
          code.br(exit);
        },
        passGate: () => {},
        backEdge: () => {
          code.set(budget, i32.sub(budget, c32(1)));
          code.brIf(exit, i32.eqz(budget));
        },
      });
      code.unreachable();
    });
    code.return(current);
    code.unreachable();
    module.exportFunction("f", index);
    const visited: number[] = [];
    const instance = new WebAssembly.Instance(new WebAssembly.Module(module.encode()), {
      t: { visit: (block: number) => visited.push(block) },
    });
    const f = instance.exports.f as (seed: number) => number;
    for (const seed of [1, 77, 123456789]) {
      visited.length = 0;
      const result = f(seed);
      // The walk goes on for as long as the function did.
      let expected = seed;
      let at = 0;
      for (const [step, block] of visited.entries()) {
        assert.equal(block, at, `round ${round}, step ${step}`);
        expected = mix(expected, block);
        const { to } = nodes[block]!;
        at = to.length === 1 || (expected & 1) !== 0 ? to[0]! : to[1]!;
      }
      assert.equal(result, expected, `round ${round}: the hash`);
      const whole = walk(nodes, seed, leaves);
      if (visited.length < BUDGET) assert.equal(`${visited.slice(0, 12).join()} ${result}`, whole, `round ${round}`);
    }
  }
});

test("loops nest, and a jump into the middle of one leaves", () => {
  // 0 → 1 ⇄ 2, 2 → 3 → 1: two loops with one head.
  const order: string[] = [];
  const nodes: FlowNode[] = [{ to: [1] }, { to: [2] }, { to: [1, 3] }, { to: [1, -1] }];
  const module = new ModuleBuilder();
  const { code } = module.function([], []);
  code.block((exit) => {
    new FlowGraph(nodes).write(code, {
      body: (index) => {
        order.push(`body ${index}`);
        return nodes[index]!.to.length === 1 ? undefined : code.let(c32(1));
      },
      leave: (from) => {
        order.push(`leave ${from}`);
        code.br(exit);
      },
      backEdge: (from, to) => order.push(`back ${from}-${to}`),
      passGate: () => {},
    });
    code.unreachable();
  });
  assert.deepEqual(order, ["body 0", "body 1", "body 2", "back 2-1", "body 3", "back 3-1", "leave 3"]);
  assert.ok(WebAssembly.validate(module.encode()));
});
