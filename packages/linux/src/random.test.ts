import assert from "node:assert/strict";
import { test } from "node:test";
import { SystemCall, trySyscall } from "./direct-syscall.ts";
import { fillRandom } from "./random.ts";

test("all bytes are filled, of any length and at any place, and nothing beside them", () => {
  for (const length of [0, 1, 7, 300, 3 * 2 ** 20]) {
    const room = new Uint8Array(length + 32);
    fillRandom(room.subarray(16, 16 + length));
    assert.ok(
      room.subarray(0, 16).every((byte) => byte === 0) && room.subarray(16 + length).every((byte) => byte === 0),
    );
    // Of 256 random bytes all of a stretch are zero once in 2^2048 times.
    for (let at = 16; at + 256 <= 16 + length; at += 256)
      assert.ok(room.subarray(at, at + 256).some((byte) => byte !== 0));
  }
  const [one, other] = [new Uint8Array(32), new Uint8Array(32)];
  fillRandom(one);
  fillRandom(other);
  assert.notDeepEqual(one, other);
});

test("the call is the kernel's: it refuses an address that is none", () => {
  assert.equal(trySyscall(SystemCall.getrandom, 16, 8, 0), -14);
});
