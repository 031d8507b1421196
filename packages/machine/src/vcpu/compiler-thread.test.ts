/** The thread that compiles, and its link to a vCPU's. */

import assert from "node:assert/strict";
import { test } from "node:test";
import type { RegionOrder } from "@lodge/softkvm/compiling";
import { type CompilerLink, compileThread, LinkState, LinkWord } from "./compiler-link.ts";
import { CompilerThread } from "./compiler-thread.ts";

/** 1: inc %eax; jmp 1b, as 64-bit code of ring 0. */
const CODE = [0xff, 0xc0, 0xeb, 0xfc];

/** One block, which leads to itself; its fields are `Field` of softkvm's order.ts. */
function order(code: readonly number[]): RegionOrder {
  const host = 0x1000;
  const [mode, record, count, none, distance] = [2, 0x30000, 2, Number.NaN, 0];
  return {
    ...{ base: 0x20000, slot: 100, features: undefined },
    members: Float64Array.of(host, code.length, mode, record, count, host, none, none, distance),
    seeds: Int32Array.of(0, 0),
    code: Uint8Array.from(code),
  };
}

/** Waits until a word is no more what it was. */
async function changed({ words }: CompilerLink, word: number, from: number): Promise<void> {
  const shared = new Int32Array(words);
  while (Atomics.load(shared, word) === from) await Atomics.waitAsync(shared, word, from).value;
}

test("orders of each vCPU are answered to that one, and one that comes to nothing hinders no other", async () => {
  await using thread = new CompilerThread(2);
  const [first, second] = thread.links as [CompilerLink, CompilerLink];
  const threads = [first, second].map(compileThread);
  assert.ok(threads.every(({ isReady }) => !isReady));
  threads[1]!.want();
  await changed(second, LinkWord.state, LinkState.WANTED);
  assert.ok(threads.every(({ isReady }) => isReady));
  threads[0]!.want();
  assert.equal(threads[0]!.isReady, true);
  assert.equal(threads[0]!.take(), undefined);
  threads[0]!.order(order([0x0f, 0xff, 0xff, 0xff]));
  threads[1]!.order(order(CODE));
  await changed(first, LinkWord.answers, 0);
  await changed(second, LinkWord.answers, 0);
  assert.equal(threads[0]!.take(), "nothing");
  assert.equal(threads[0]!.take(), undefined);
  const region = threads[1]!.take();
  assert.ok(typeof region === "object" && region.module instanceof WebAssembly.Module);
  assert.deepEqual(region.entries, [0]);
  threads[0]!.order(order(CODE));
  await changed(first, LinkWord.answers, 1);
  assert.equal(typeof threads[0]!.take(), "object");
});

test("a thread that has ended is not ready", async () => {
  const thread = new CompilerThread(1);
  const [link] = thread.links as [CompilerLink];
  const { want } = compileThread(link);
  want();
  await changed(link, LinkWord.state, LinkState.WANTED);
  await thread[Symbol.asyncDispose]();
  assert.equal(compileThread(link).isReady, false);
  // Nobody waits for it any more.
  want();
  assert.equal(compileThread(link).isReady, false);
});

test("a thread that nobody wants does not begin", async () => {
  const thread = new CompilerThread(1);
  const [link] = thread.links as [CompilerLink];
  await thread[Symbol.asyncDispose]();
  assert.equal(Atomics.load(new Int32Array(link.words), LinkWord.state), LinkState.GONE);
});
