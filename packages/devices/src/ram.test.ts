import assert from "node:assert/strict";
import { test } from "node:test";
import { MappedRam } from "./ram.ts";

const buffer = new SharedArrayBuffer(0x3000);
const ram = new MappedRam(buffer, [
  { gpa: 0, sizeBytes: 0x2000, offset: 0 },
  { gpa: 2 ** 32, sizeBytes: 0x1000, offset: 0x2000 },
]);

test("guest addresses lead to the buffer, on both sides of the hole", () => {
  const low = ram.slice(0x1ff0, 16)!;
  assert.deepEqual([low.buffer, low.byteOffset, low.length], [buffer, 0x1ff0, 16]);
  assert.equal(ram.slice(2 ** 32 + 8, 4)!.byteOffset, 0x2008);
  assert.equal(ram.slice(2 ** 32, 0x1000)!.length, 0x1000);
});

test("what is not wholly RAM is undefined, whatever the numbers", () => {
  const outside: [number, number][] = [
    [0x1ff0, 17],
    [0x2000, 1],
    [2 ** 32 - 1, 2],
    [2 ** 32 + 0x1000, 1],
    [0, 2 ** 32],
    [2 ** 64 - 1, 1],
    [2 ** 64, 2 ** 64],
    [-1, 1],
    [0, -1],
    [Number.NaN, 1],
  ];
  for (const [gpa, length] of outside) assert.equal(ram.slice(gpa, length), undefined, `${gpa}, ${length}`);
});

test("a piece outside its buffer is refused", () => {
  assert.throws(() => new MappedRam(buffer, [{ gpa: 0, sizeBytes: 0x3001, offset: 0 }]), /RAM at 0x0 lies outside/);
});

test("what devices write is told on", () => {
  const told: [number, number][] = [];
  const reporting = new MappedRam(buffer, [], (gpa, length) => told.push([gpa, length]));
  reporting.written(0x1000, 4);
  assert.deepEqual(told, [[0x1000, 4]]);
});
