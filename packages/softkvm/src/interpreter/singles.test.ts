import assert from "node:assert/strict";
import { test } from "node:test";
import { SINGLES, Singles } from "./singles.ts";

const AT = 0x1000;
const SIZE = 128;

function made() {
  const memory = new Uint8Array(0x1000);
  const singles = new Singles(memory, AT, SIZE);
  /** As it is decoded: its key is where it lies. */
  const decode = (host: number, length: number) => {
    const record = singles.next(host);
    singles.keep(host, length);
    return record;
  };
  return { memory, singles, decode };
}

test("an instruction is found while its bytes are what they were", () => {
  const { memory, singles, decode } = made();
  memory.set([0xe4, 0x60, 0x90], 0x200);
  const record = decode(0x200, 2);
  assert.equal(singles.find(0x200, 0x200), record);
  memory[0x202] = 0xcc;
  assert.equal(singles.find(0x200, 0x200), record, "the next one's bytes");
  memory[0x201] = 0x61;
  assert.equal(singles.find(0x200, 0x200), 0);
  assert.equal(decode(0x200, 2), record, "it keeps its place");
  assert.equal(singles.find(0x200, 0x200), record);
});

test("so many are kept, each in a place of its own, and the oldest go first", () => {
  const { singles, decode } = made();
  const records = Array.from({ length: SINGLES }, (_, index) => decode(index * 16, 1));
  assert.equal(new Set(records).size, SINGLES);
  assert.ok(records.every((record) => record >= AT && record + SIZE <= AT + SINGLES * SIZE));
  assert.equal(decode(SINGLES * 16, 1), records[0]);
  assert.equal(singles.find(0, 0), 0);
  assert.equal(singles.find(16, 16), records[1]);
});

test("what was not decoded after all, or was forgotten, is not found", () => {
  const { singles, decode } = made();
  singles.next(0x300);
  assert.equal(singles.find(0x300, 0x300), 0);
  decode(0x310, 3);
  singles.clear();
  singles.keep(0x310, 3);
  assert.equal(singles.find(0x310, 0x310), 0);
});
