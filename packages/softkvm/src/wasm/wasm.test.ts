/** The emitter against V8: what it writes is valid, and folding constants changes no result. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { Bytes } from "./bytes.ts";
import type { Expr, I32, I64, ValueType } from "./expr.ts";
import { ModuleBuilder } from "./module.ts";
import { c32, c64, choose, i32, i64, select } from "./ops.ts";

/** A small generator with a seed that failures print (xorshift). */
function randomFrom(seed: number): (below: number) => number {
  let state = seed | 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

const EDGES = [0, 1, -1, 2, 31, 32, 63, 64, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, -0x80000000];

/** Runs `expression` in a function of its own. */
function evaluate(
  parameters: ValueType[],
  results: ValueType[],
  make: (p: readonly Expr[]) => Expr,
  ...args: unknown[]
) {
  const module = new ModuleBuilder();
  const { index, code } = module.function(parameters, results);
  code.return(make(code.parameters));
  code.unreachable();
  module.exportFunction("f", index);
  const instance = new WebAssembly.Instance(new WebAssembly.Module(module.encode()));
  return (instance.exports.f as WebAssembly.ExportedFunction)(...args);
}

test("a function is the optimizing compiler's from its first call on where the module says so", () => {
  setFlagsFromString("--experimental-wasm-compilation-hints");
  setFlagsFromString("--allow-natives-syntax");
  try {
    const isOptimized = new Function("f", "return %IsTurboFanFunction(f)") as (f: unknown) => boolean;
    const optimized = [false, true].map((optimized) => {
      const module = new ModuleBuilder();
      const { index, code } = module.function([], ["i32"]);
      code.return(c32(5));
      code.unreachable();
      module.exportFunction("f", index);
      const { f } = new WebAssembly.Instance(new WebAssembly.Module(module.encode({ optimized }))).exports;
      assert.equal((f as () => number)(), 5);
      return isOptimized(f);
    });
    assert.deepEqual(optimized, [false, true]);
  } finally {
    setFlagsFromString("--no-allow-natives-syntax");
  }
});

test("numbers are written as LEB128 says, whatever their size", () => {
  const random = randomFrom(1);
  const values = [0n, 1n, -1n, 63n, 64n, -64n, -65n, 127n, 128n, 2n ** 31n, -(2n ** 31n), 2n ** 63n - 1n, -(2n ** 63n)];
  for (let round = 0; round < 200; round++) {
    values.push(BigInt.asIntN(64, (BigInt(random(2 ** 32)) << 32n) | BigInt(random(2 ** 32))) >> BigInt(random(64)));
  }
  for (const value of values) {
    assert.equal(
      evaluate([], ["i64"], () => c64(value)),
      value,
    );
    const narrow = Number(BigInt.asIntN(32, value));
    assert.equal(
      evaluate([], ["i32"], () => c32(narrow)),
      narrow,
    );
    const out = new Bytes();
    const unsigned = Number(BigInt.asUintN(52, value));
    out.u32(unsigned);
    const read = out.view().reduce((sum, byte, index) => sum + (byte & 0x7f) * 2 ** (7 * index), 0);
    assert.equal(read, unsigned);
  }
});

test("an operation on constants folds to what it computes", () => {
  const random = randomFrom(Date.now() | 0);
  const pick = () => (random(2) ? EDGES[random(EDGES.length)]! : random(2 ** 32) | 0);
  type Binary32 = (a: I32, b: I32) => I32;
  type Binary64 = (a: I64, b: I64) => Expr<"i64" | "i32">;
  const names32 = ["add", "sub", "mul", "and", "or", "xor", "shl", "shr_s", "shr_u", "rotl", "rotr"] as const;
  const compares = ["eq", "ne", "lt_s", "lt_u", "gt_s", "gt_u", "le_s", "le_u", "ge_s", "ge_u"] as const;
  for (const name of [...names32, ...compares]) {
    for (let round = 0; round < 12; round++) {
      const [a, b] = [pick(), pick()];
      const narrow = i32[name] as Binary32;
      assert.equal(
        evaluate([], ["i32"], () => narrow(c32(a), c32(b))),
        evaluate(["i32", "i32"], ["i32"], ([x, y]) => narrow(x as I32, y as I32), a, b),
        `i32.${name} ${a} ${b}`,
      );
      const wide = i64[name] as Binary64;
      const type = (compares as readonly string[]).includes(name) ? "i32" : "i64";
      const [p, q] = [(BigInt(a) << 32n) ^ BigInt(b), BigInt(b)];
      assert.equal(
        evaluate([], [type], () => wide(c64(p), c64(q))),
        evaluate(["i64", "i64"], [type], ([x, y]) => wide(x as I64, y as I64), BigInt.asIntN(64, p), q),
        `i64.${name} ${p} ${q}`,
      );
    }
  }
});

test("what changes nothing vanishes", () => {
  const x = i32.add(c32(1), c32(2));
  const operation = i32.clz(x);
  assert.equal(i32.add(operation, c32(0)), operation);
  assert.equal(i32.and(operation, c32(-1)), operation);
  assert.equal(i64.or(i64.extend_i32_u(operation), c64(0)).type, "i64");
  assert.equal(select(c32(1), operation, x), operation);
  assert.equal(choose(c32(0), operation, x), x);
});

test("control flow: blocks, loops, tables and tail calls", () => {
  const module = new ModuleBuilder();
  // Sums 1 to n, three ways by n modulo 3.
  const { index, code } = module.function(["i32"], ["i32"]);
  const n = code.parameters[0] as I32;
  const sum = code.local("i32");
  const count = code.let(n);
  code.block((out) => {
    code.loop((again) => {
      code.brIf(out, i32.eqz(count));
      code.set(sum, i32.add(sum, count));
      code.set(count, i32.sub(count, c32(1)));
      code.br(again);
    });
  });
  code.block((otherwise) => {
    code.block((one) => {
      code.block((zero) => code.brTable([zero, one], otherwise, i32.rem_u(n, c32(3))));
      code.return(sum);
    });
    code.return(i32.sub(c32(0), sum));
  });
  code.return(i32.mul(sum, c32(100)));
  code.unreachable();
  const caller = module.function(["i32"], ["i32"]);
  caller.code.tailCall(index, caller.code.parameters[0]!);
  caller.code.unreachable();
  module.exportFunction("f", caller.index);
  const instance = new WebAssembly.Instance(new WebAssembly.Module(module.encode()));
  const f = instance.exports.f as (n: number) => number;
  assert.deepEqual([f(3), f(4), f(5)], [6, -10, 1500]);
});

test("locals are given back and taken again; code can be put in front", () => {
  const module = new ModuleBuilder();
  const { index, code } = module.function([], ["i32"]);
  const kept = code.let(c32(5));
  const mark = code.mark;
  const lost = code.let(c32(7));
  code.releaseSince(mark, kept);
  const again = code.local("i32");
  assert.equal(again.index, lost.index);
  assert.notEqual(again.index, kept.index);
  code.return(i32.add(kept, again));
  code.unreachable();
  code.before(() => code.set(again, c32(1)));
  module.exportFunction("f", index);
  const instance = new WebAssembly.Instance(new WebAssembly.Module(module.encode()));
  // The release left the 7 where the new local is.
  assert.equal((instance.exports.f as () => number)(), 12);
});

test("a local that was given back by itself is not given back again with others", () => {
  const { code } = new ModuleBuilder().function([], []);
  const mark = code.mark;
  const early = code.let(c32(1));
  code.let(c32(2));
  code.release(early);
  code.releaseSince(mark);
  const indexes = Array.from({ length: 4 }, () => code.local("i32").index);
  assert.equal(new Set(indexes).size, indexes.length, `${indexes}`);
});
