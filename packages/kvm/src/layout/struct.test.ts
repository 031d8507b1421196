import assert from "node:assert/strict";
import { test } from "node:test";
import { Sregs } from "./registers.ts";
import { address, array, bytes, type FieldType, i32, i64, padding, struct, u8, u16, u32, u64 } from "./struct.ts";

/** Pseudorandom 32-bit numbers (mulberry32): the same ones at every run. */
function randoms(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return (t ^ (t >>> 14)) >>> 0;
  };
}

// biome-ignore lint/suspicious/noExplicitAny: a field of any type with a value of the same
type Sample = { field: FieldType<any>; value: any };

/** A random field with a random value of its type; structures and arrays hold smaller ones. */
function sample(random: () => number, depth: number): Sample {
  const low = random();
  const wide = (BigInt(random()) << 32n) | BigInt(low);
  const length = 1 + (random() % 5);
  const simple: Sample[] = [
    { field: u8, value: low & 0xff },
    { field: u16, value: low & 0xffff },
    { field: u32, value: low },
    { field: i32, value: low | 0 },
    { field: u64, value: wide },
    { field: i64, value: BigInt.asIntN(64, wide) },
    { field: address, value: Number(wide & (2n ** 53n - 1n)) },
    { field: bytes(length), value: Uint8Array.from({ length }, () => random()) },
    { field: padding(u32, length), value: undefined },
  ];
  const kind = random() % (depth > 0 ? simple.length + 2 : simple.length);
  if (kind < simple.length) return simple[kind]!;
  const inner = sampleStruct(random, depth - 1);
  return kind === simple.length ? inner : { field: array(inner.field, 2), value: [inner.value, inner.value] };
}

function sampleStruct(random: () => number, depth: number) {
  const samples = Array.from({ length: 1 + (random() % 6) }, () => sample(random, depth));
  const fields = Object.fromEntries(samples.map(({ field }, index) => [`f${index}`, field]));
  const entries = samples.map(({ value }, index) => [`f${index}`, value] as const);
  const value = Object.fromEntries(entries.filter(([, value]) => value !== undefined));
  return { field: struct("sample", fields), value };
}

test("random values of random structures come back as written, and nothing beside them is touched", () => {
  const random = randoms(1);
  for (let round = 0; round < 2000; round++) {
    const { field, value } = sampleStruct(random, 2);
    assert.deepEqual(field.decode(field.encode(value)), value);

    const around = new Uint8Array(field.size + 16).fill(0xa5);
    field.write(new DataView(around.buffer, 8), 0, value);
    assert.deepEqual(around.subarray(0, 8), new Uint8Array(8).fill(0xa5));
    assert.deepEqual(around.subarray(8 + field.size), new Uint8Array(8).fill(0xa5));
    assert.deepEqual(field.read(new DataView(around.buffer), 8), value);
  }
});

test("fields lie at multiples of their alignment, and the structure is one of its largest", () => {
  const random = randoms(2);
  for (let round = 0; round < 500; round++) {
    const { field } = sampleStruct(random, 2);
    let end = 0;
    for (const [key, type] of Object.entries(field.fields)) {
      const offset = field.offset[key]!;
      assert.equal(offset % type.align, 0);
      assert.ok(offset >= end && offset - end < type.align);
      end = offset + type.size;
    }
    assert.equal(field.size % field.align, 0);
    assert.ok(field.size >= end && field.size - end < field.align);
  }
});

test("padding that is named is written as zeros and left out of records", () => {
  const layout = struct("padded", { a: u8, pad: padding(u8, 3), b: u32 });
  const view = new DataView(new Uint8Array(8).fill(0xff).buffer);
  layout.write(view, 0, { a: 1, b: 2 });
  assert.deepEqual(new Uint8Array(view.buffer), Uint8Array.of(1, 0, 0, 0, 2, 0, 0, 0));
  assert.deepEqual(layout.decode(view), { a: 1, b: 2 });
});

test("a value of the wrong length, or none, is refused", () => {
  const layout = struct("strict", { raw: bytes(4), list: array(u16, 2), inner: struct("inner", { x: u8 }) });
  const good = { raw: new Uint8Array(4), list: [1, 2], inner: { x: 1 } };
  assert.equal(layout.encode(good).byteLength, layout.size);
  for (const length of [0, 3, 5]) {
    assert.throws(() => layout.encode({ ...good, raw: new Uint8Array(length) }), {
      name: "RangeError",
      message: `${length} bytes where the layout has 4`,
    });
  }
  assert.throws(() => layout.encode({ ...good, list: [1] }), { message: "1 elements where the layout has 2" });
  assert.throws(() => layout.encode({ ...good, list: [1, 2, 3] }), RangeError);
  for (const key of ["raw", "list", "inner"] as const) {
    const { [key]: _, ...partial } = good;
    assert.throws(() => layout.encode(partial as typeof good), {
      name: "TypeError",
      message: `strict: the field ${key} is missing`,
    });
  }
  assert.throws(() => layout.encode({ ...good, inner: {} as { x: number } }), {
    message: "inner: the field x is missing",
  });
});

test("a view that is too short is refused", () => {
  assert.throws(() => Sregs.decode(new DataView(new ArrayBuffer(Sregs.size - 1))), RangeError);
  assert.throws(
    () => Sregs.write(new DataView(new ArrayBuffer(Sregs.size)), 1, Sregs.decode(Sregs.allocate())),
    RangeError,
  );
});

test("records are copies: later changes of the buffer do not reach them", () => {
  const layout = struct("copy", { raw: bytes(2), list: array(u8, 2) });
  const view = layout.encode({ raw: Uint8Array.of(1, 2), list: [3, 4] });
  const record = layout.decode(view);
  new Uint8Array(view.buffer).fill(9);
  assert.deepEqual(record, { raw: Uint8Array.of(1, 2), list: [3, 4] });
});
