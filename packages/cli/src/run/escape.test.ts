import assert from "node:assert/strict";
import { test } from "node:test";
import { EscapeKeys } from "./escape.ts";

const INPUTS: [string, string, string | undefined][] = [
  ["ls\r", "ls\r", undefined],
  ["a\x01\x01b", "a\x01b", undefined],
  ["\x01ab", "\x01b", undefined],
  ["\x01e", "\x01e", undefined],
  ["ab\x01x", "ab", "quit"],
  ["\x01X", "", "quit"],
  ["\x01h", "", "help"],
];

test("Ctrl-A and a key, wherever the input is cut", () => {
  for (const [input, forwarded, command] of INPUTS) {
    for (let cut = 0; cut <= input.length; cut++) {
      const keys = new EscapeKeys();
      const typed = [input.slice(0, cut), input.slice(cut)].map((part) => keys.feed(Buffer.from(part, "latin1")));
      const got = Buffer.concat(typed.map(({ forward }) => forward)).toString("latin1");
      assert.deepEqual(
        [got, typed.at(-1)!.command ?? typed[0]!.command],
        [forwarded, command],
        `${input} cut at ${cut}`,
      );
    }
  }
});

test("what stands behind a command is dropped", () => {
  const { forward, command } = new EscapeKeys().feed(Buffer.from("a\x01xb"));
  assert.deepEqual([Buffer.from(forward).toString(), command], ["a", "quit"]);
});
