import assert from "node:assert/strict";
import { test } from "node:test";
import { Random, runSeed } from "../../testing/random.ts";
import { DirtyBits } from "./dirty-bits.ts";

test("bits under random changes are those of a plain list", () => {
  const seed = runSeed();
  const random = new Random(seed);
  for (let round = 0; round < 200; round++) {
    const grain = 512;
    const size = 512 * (1 + random.below(300)) - random.below(2) * 100;
    const bits = new DirtyBits(size, grain);
    const other = new DirtyBits(size, 2048);
    const model = new Uint8Array(Math.ceil(size / grain));
    for (let step = 0; step < 20; step++) {
      const offset = random.below(size);
      const length = random.below(size - offset + 1);
      const set = random.chance(0.6);
      if (set) bits.set(offset, length);
      else bits.clear(offset, length);
      if (length > 0) model.fill(set ? 1 : 0, Math.floor(offset / grain), Math.ceil((offset + length) / grain));
      if (random.chance(0.1)) {
        other.set(offset, 1);
        bits.merge(other);
        for (let at = 0; at < model.length; at++) if (other.any(at * grain, 1)) model[at] = 1;
      }
    }
    const seen = new Uint8Array(model.length);
    let bytes = 0;
    for (let run = bits.next(0, 4096); run !== undefined; run = bits.next(run.offset + run.length, 4096)) {
      assert.ok(run.length > 0 && run.length <= 4096 && run.offset + run.length <= size);
      seen.fill(1, run.offset / grain, Math.ceil((run.offset + run.length) / grain));
      bytes += run.length;
    }
    assert.deepEqual(seen, model, `SEED=${seed}`);
    assert.equal(
      bits.count,
      model.reduce((sum, bit) => sum + bit, 0),
    );
    assert.equal(bits.dirtyBytes, bytes);
    const loaded = new DirtyBits(size, grain);
    loaded.load(bits.bytes, 0);
    assert.equal(loaded.count, bits.count);
    bits.resize(size + 5000);
    assert.equal(bits.count, loaded.count);
    bits.resize(512);
    assert.equal(bits.count, model[0]);
  }
});
