import assert from "node:assert/strict";
import { test } from "node:test";
import { CodeWrites } from "./code-writes.ts";

const make = () => new CodeWrites(new Int32Array(new SharedArrayBuffer(CodeWrites.words * 4)));

/** What a reader gets, or undefined when something is lost. */
function pages(writes: CodeWrites, seen: number): number[] | undefined {
  const found: number[] = [];
  return writes.read(seen, (page) => found.push(page)) === undefined ? undefined : found;
}

test("readers see each page, in order, up to the last page of 16 GiB", () => {
  const writes = make();
  const start = writes.end;
  for (const page of [0, 7, 2 ** 22 - 1]) writes.push(page, start);
  assert.deepEqual(pages(writes, start), [0, 7, 2 ** 22 - 1]);
  assert.deepEqual(pages(writes, writes.end), []);
});

test("a writer that has read all does not read its own; one that has not reads that, too", () => {
  const writes = make();
  const seen = writes.push(1, writes.end);
  assert.deepEqual(pages(writes, seen), []);
  writes.push(2, -1);
  assert.equal(writes.push(3, seen), seen);
  assert.deepEqual(pages(writes, seen), [2, 3]);
});

test("whoever falls behind is told so, at whatever count", () => {
  for (const before of [0, 5, 1024 * 1023, 2 ** 20 * 7 + 3]) {
    const words = new Int32Array(new SharedArrayBuffer(CodeWrites.words * 4));
    words[0] = before;
    const late = new CodeWrites(words);
    for (let page = 0; page < 1024; page++) late.push(page, -1);
    assert.equal(pages(late, before)?.length, 1024);
    late.push(5, -1);
    assert.equal(pages(late, before), undefined);
    assert.equal(pages(late, before + 1)?.at(-1), 5);
  }
});

test("an entry whose number is taken and which is not written yet counts as lost", () => {
  const words = new Int32Array(new SharedArrayBuffer(CodeWrites.words * 4));
  const writes = new CodeWrites(words);
  writes.push(9, 0);
  words[0] = 2;
  assert.equal(pages(writes, 0), undefined);
});
