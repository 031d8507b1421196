/** Unpacking against the programs that pack. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { unpackLz4Legacy } from "./lz4.ts";
import { unpack } from "./unpack.ts";

/** Something that a packer finds much and little in: text, noise, long runs, and more than one LZ4 block. */
function sample(bytes: number, seed: number): Uint8Array {
  const out = new Uint8Array(bytes);
  let state = seed;
  const next = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state >>> 8;
  };
  for (let at = 0; at < bytes; ) {
    const length = Math.min(bytes - at, 1 + (next() % 5000));
    const kind = next() % 4;
    if (kind === 0) out.fill(next(), at, at + length);
    else if (kind === 1 && at > 0) out.copyWithin(at, next() % at, (next() % at) + length);
    else for (let index = 0; index < length; index++) out[at + index] = kind === 2 ? next() : 97 + (next() % 6);
    at += length;
  }
  return out;
}

const seed = Date.now() >>> 0;
const content = sample(8.5 * 2 ** 20, seed);

/** The kernel's build appends the unpacked size. */
const withSize = (packed: Uint8Array) => Buffer.concat([packed, Buffer.from(Uint32Array.of(content.length).buffer)]);

function packed(input: Uint8Array, program: string, ...options: string[]): Uint8Array | undefined {
  const { stdout, status, error } = spawnSync(program, options, { input, maxBuffer: 2 ** 28 });
  return error === undefined && status === 0 ? stdout : undefined;
}

const packers: [string, (input: Uint8Array) => Uint8Array | undefined][] = [
  ["gzip", gzipSync],
  ["zstd", zstdCompressSync],
  ["lz4 -l", (input) => packed(input, "lz4", "-l", "-c", "-1")],
  // As scripts/xz_wrap.sh of the kernel has it, for this architecture.
  [
    "xz with the x86 filter",
    (input) => packed(input, "xz", "--check=crc32", "--x86", "--lzma2=preset=1,dict=32MiB", "-c"),
  ],
  ["xz with CRC64", (input) => packed(input, "xz", "-0", "-c")],
];

for (const [name, pack] of packers) {
  const data = pack(content);
  const skip = data === undefined ? `no ${name.split(" ")[0]} here` : false;
  test(`what ${name} packs is unpacked`, { skip }, (t) => {
    t.diagnostic(`seed ${seed}`);
    assert.ok(Buffer.from(unpack(withSize(data!))!).equals(content), `seed ${seed}`);
  });

  test(`${name}: damaged and cut-off input is refused, or gives something else, but does no harm`, { skip }, () => {
    const data = pack(content.subarray(0, 100_000));
    for (let round = 0; round < 12; round++) {
      const bad = Uint8Array.from(
        data!.subarray(0, round % 3 === 0 ? Math.floor((data!.length * round) / 12) : undefined),
      );
      for (let flips = 0; flips < 3; flips++) {
        const at = 6 + Math.floor((((seed >>> flips) * (round + 1)) % 65536) * (bad.length / 65536) * 0.01);
        if (at < bad.length) bad[at]! ^= 1 << (round & 7);
      }
      try {
        unpack(bad);
      } catch (error) {
        assert.ok(error instanceof Error);
      }
    }
  });
}

test("a limit is kept", () => {
  const block = spawnSync("lz4", ["-l", "-c"], { input: content, maxBuffer: 2 ** 28 });
  if (block.status === 0) assert.throws(() => unpackLz4Legacy(block.stdout, 1000), /more than 1000 bytes/);
  assert.equal(unpack(Uint8Array.of(1, 2, 3, 4)), undefined);
});
