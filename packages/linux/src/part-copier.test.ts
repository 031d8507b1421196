import assert from "node:assert/strict";
import { closeSync, mkdtempDisposableSync, openSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { COPIED_BLOCK_BYTES, CopyRooms, canCopyParts, MOST_COPIED_BYTES, PartCopier, Zeros } from "./part-copier.ts";

const skip = canCopyParts ? false : "there is machine code for x86-64 only";
const BLOCK = COPIED_BLOCK_BYTES;

/** Two files, and what copies between them. */
class Files implements Disposable {
  readonly #folder = mkdtempDisposableSync(join(tmpdir(), "lodge-part-copier-"));
  readonly from: number;
  readonly to: number;
  readonly rooms = new CopyRooms(2);

  constructor(from: Uint8Array, to: Uint8Array) {
    const path = (name: string) => join(this.#folder.path, name);
    writeFileSync(path("from"), from);
    writeFileSync(path("to"), to);
    this.from = openSync(path("from"), "r");
    this.to = openSync(path("to"), "r+");
  }

  get copy(): Buffer {
    return readFileSync(join(this.#folder.path, "to"));
  }

  get storedBytes(): number {
    return statSync(join(this.#folder.path, "to")).blocks * 512;
  }

  [Symbol.dispose](): void {
    this.rooms[Symbol.dispose]();
    closeSync(this.from);
    closeSync(this.to);
    this.#folder[Symbol.dispose]();
  }
}

/** A file of so many blocks, those that `isZero` says all zeros; others may begin or end with zeros. */
function content(blocks: number, isZero: (block: number) => boolean): Buffer {
  const bytes = Buffer.alloc(blocks * BLOCK);
  for (let block = 0; block < blocks; block++) {
    if (isZero(block)) continue;
    if (block % 3 === 0) bytes[block * BLOCK] = 1;
    else if (block % 3 === 1) bytes[(block + 1) * BLOCK - 1] = 2;
    else bytes.fill(block, block * BLOCK + 9, block * BLOCK + 4000);
  }
  return bytes;
}

test("parts go to their places, by two threads and with the zeros that are wanted", { skip }, async () => {
  const isZero = (block: number) => block >= 256 && (block < 512 || block % 7 < 2);
  const bytes = content(1024, isZero);
  for (const zeros of [Zeros.WRITTEN, Zeros.WRITTEN_BESIDE, Zeros.LEFT_OUT]) {
    const before = Buffer.alloc(bytes.length, 0xee);
    using files = new Files(bytes, before);
    const copier = new PartCopier(16);
    const whole = MOST_COPIED_BYTES;
    const at = (index: number) => (index === 3 ? 3 * whole - BLOCK : index * whole);
    for (let index = 0; index < 4; index++) {
      const length = index === 2 ? whole - BLOCK : whole;
      copier.push({
        fromFd: files.from,
        from: at(index),
        toFd: files.to,
        to: bytes.length - at(index) - length,
        length,
        zeros,
      });
    }
    await copier.copy(files.rooms);
    const expected = Buffer.from(before);
    for (let index = 0; index < 4; index++) {
      const length = index === 2 ? whole - BLOCK : whole;
      const first = at(index) / BLOCK;
      assert.ok(copier.done(index));
      let some = false;
      let all = true;
      for (let block = first; block < first + length / BLOCK; block++) {
        some ||= isZero(block);
        all &&= isZero(block);
      }
      const looked = zeros !== Zeros.WRITTEN;
      assert.equal(copier.hasZeros(index), looked && some);
      for (let block = first; block < first + length / BLOCK; block++) {
        assert.equal(copier.isZero(index, block - first, 1), looked && isZero(block), `block ${block}`);
        if (zeros === Zeros.LEFT_OUT && isZero(block)) continue;
        if (zeros === Zeros.WRITTEN_BESIDE && all) continue;
        const to = bytes.length - at(index) - length + (block - first) * BLOCK;
        bytes.copy(expected, to, block * BLOCK, (block + 1) * BLOCK);
      }
      assert.equal(copier.isZero(index, 0, length / BLOCK), looked && all);
    }
    assert.ok(files.copy.equals(expected), `zeros ${zeros}`);
  }
});

test("zeros that are left out take no space", { skip }, async () => {
  using files = new Files(
    content(512, (block) => block % 64 !== 5),
    new Uint8Array(),
  );
  const copier = new PartCopier(2);
  for (const at of [0, MOST_COPIED_BYTES]) {
    const length = MOST_COPIED_BYTES;
    copier.push({ fromFd: files.from, from: at, toFd: files.to, to: at, length, zeros: Zeros.LEFT_OUT });
  }
  await copier.copy(files.rooms);
  assert.ok(files.storedBytes <= 8 * BLOCK, `${files.storedBytes}`);
});

test("what cannot be read or written is not done, and what is behind it is", { skip }, async () => {
  const bytes = content(16, () => false);
  using files = new Files(bytes, new Uint8Array());
  const copier = new PartCopier(4);
  const part = { fromFd: files.from, from: 0, toFd: files.to, to: 0, length: 4 * BLOCK, zeros: Zeros.LEFT_OUT };
  copier.push({ ...part, from: 14 * BLOCK });
  copier.push({ ...part, toFd: files.from });
  copier.push({ ...part, fromFd: -1 });
  copier.push({ ...part, from: 8 * BLOCK, to: 8 * BLOCK });
  await copier.copy(files.rooms);
  assert.deepEqual(
    [0, 1, 2, 3].map((index) => copier.done(index)),
    [false, false, false, true],
  );
  assert.ok(files.copy.subarray(8 * BLOCK).equals(bytes.subarray(8 * BLOCK, 12 * BLOCK)));
  assert.ok(files.copy.subarray(0, 8 * BLOCK).every((byte) => byte === 0));

  copier.clear();
  copier.push(part);
  await copier.copy(files.rooms);
  assert.ok(copier.done(0));
  assert.ok(files.copy.subarray(0, 4 * BLOCK).equals(bytes.subarray(0, 4 * BLOCK)));
});

test("a list has bounds", { skip }, () => {
  const copier = new PartCopier(1);
  const part = { fromFd: 0, from: 0, toFd: 0, to: 0, length: BLOCK, zeros: Zeros.WRITTEN };
  for (const length of [0, 100, BLOCK + 512, MOST_COPIED_BYTES + BLOCK]) {
    assert.throws(() => copier.push({ ...part, length }), /a part of/);
  }
  copier.push(part);
  assert.throws(() => copier.push(part), /is full/);
});
