/**
 * LZ4 as kernels are packed with it: the legacy frame (lz4's doc/lz4_Frame_format.md, "Legacy frame"), whose blocks of
 * up to 8 MiB unpacked stand alone (doc/lz4_Block_format.md).
 */

const MAGIC = 0x184c2102;
const BLOCK = 8 * 2 ** 20;
/** What a block can be packed to at most. */
const PACKED_BLOCK = BLOCK + Math.ceil(BLOCK / 255) + 16;
const MIN_MATCH = 4;
/** A length that goes on in further bytes. */
const MORE = 15;
/** Up to so many bytes are moved faster one by one than by a call. */
const SHORT = 32;

/** Unpacks to at most `limit` bytes. Damaged input is a `RangeError`. Bytes behind the last block are left alone. */
export function unpackLz4Legacy(packed: Uint8Array, limit: number): Uint8Array {
  const view = new DataView(packed.buffer, packed.byteOffset, packed.byteLength);
  const blocks: Uint8Array[] = [];
  let total = 0;
  let at = 4;
  while (at + 4 <= packed.length) {
    const size = view.getUint32(at, true);
    if (size === MAGIC) {
      // Another frame; the packer was called more than once.
      at += 4;
      continue;
    }
    // The kernel's build appends the unpacked size: no block is that large, or it has no room in what follows.
    if (size === 0 || size > PACKED_BLOCK || at + 4 + size > packed.length) break;
    const block = unpackBlock(packed.subarray(at + 4, at + 4 + size));
    total += block.length;
    if (total > limit) throw new RangeError(`LZ4: more than ${limit} bytes`);
    blocks.push(block);
    at += 4 + size;
  }
  const whole = new Uint8Array(total);
  let end = 0;
  for (const block of blocks) {
    whole.set(block, end);
    end += block.length;
  }
  return whole;
}

/** One block: sequences of literals and of copies from what came before. */
function unpackBlock(packed: Uint8Array): Uint8Array {
  const out = new Uint8Array(BLOCK);
  // Kept in registers: nothing but this loop knows them, and it runs millions of times.
  let from = 0;
  let to = 0;
  while (from < packed.length) {
    const token = packed[from++]!;
    let literals = token >> 4;
    if (literals === MORE) {
      const more = continued(packed, from);
      literals += more;
      from += bytesOf(more);
    }
    if (from + literals > packed.length || to + literals > BLOCK)
      throw new RangeError("LZ4: literals leave their block");
    if (literals > SHORT) {
      out.set(packed.subarray(from, from + literals), to);
      from += literals;
      to += literals;
    } else for (const end = to + literals; to < end; ) out[to++] = packed[from++]!;
    // The last sequence has no copy.
    if (from === packed.length) break;

    if (from + 2 > packed.length) throw new RangeError("LZ4: a block ends within an offset");
    const distance = packed[from]! | (packed[from + 1]! << 8);
    from += 2;
    let count = (token & 15) + MIN_MATCH;
    if ((token & 15) === MORE) {
      const more = continued(packed, from);
      count += more;
      from += bytesOf(more);
    }
    if (distance === 0 || distance > to || to + count > BLOCK) throw new RangeError("LZ4: a copy leaves its block");
    if (count > SHORT && distance >= count) {
      out.copyWithin(to, to - distance, to - distance + count);
      to += count;
    } else for (const end = to + count; to < end; to++) out[to] = out[to - distance]!;
  }
  return out.subarray(0, to);
}

/** What further bytes add to a length of four bits that are all set. */
function continued(packed: Uint8Array, from: number): number {
  for (let at = from, value = 0; ; at++) {
    const byte = packed[at];
    if (byte === undefined) throw new RangeError("LZ4: a block ends within a length");
    value += byte;
    if (byte !== 255) return value;
  }
}

/** How many bytes it took to say that. */
const bytesOf = (more: number): number => Math.floor(more / 255) + 1;
