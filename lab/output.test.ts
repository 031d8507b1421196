import assert from "node:assert/strict";
import { test } from "node:test";
import { MarkedStream } from "./output.ts";

test("the mark is found wherever the stream is cut", () => {
  const mark = "aab-end";
  const text = "xaaab-enaab-en aab-end7\n";
  for (let first = 0; first <= text.length; first++) {
    for (let second = first; second <= text.length; second++) {
      const stream = new MarkedStream(mark);
      const pieces = [text.slice(0, first), text.slice(first, second), text.slice(second)];
      const data = Buffer.concat(pieces.map((piece) => stream.push(Buffer.from(piece))));
      assert.equal(data.toString(), "xaaab-enaab-en ");
      assert.equal(stream.rest, "7\n");
    }
  }
});

test("only a beginning of the mark is held back", () => {
  const stream = new MarkedStream("end");
  assert.equal(stream.push(Buffer.from("two")).toString(), "two");
  assert.equal(stream.push(Buffer.from("two en")).toString(), "two ");
  assert.equal(stream.push(Buffer.from("x")).toString(), "enx");
  assert.equal(stream.ended, false);
});
