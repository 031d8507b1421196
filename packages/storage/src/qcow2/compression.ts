/** The content of compressed clusters ("Compressed Clusters Descriptor"). */

import type { Compression } from "./header.ts";

/** Loaded with the first compressed cluster: most images have none, and every start of the command would wait for it. */
let codecs: ReturnType<typeof loadCodecs> | undefined;

async function loadCodecs() {
  const { promisify } = await import("node:util");
  const { constants, deflateRaw, inflateRaw, zstdCompress, zstdDecompress } = await import("node:zlib");
  return {
    inflate: promisify(inflateRaw),
    deflate: promisify(deflateRaw),
    unpackZstd: promisify(zstdDecompress),
    packZstd: promisify(zstdCompress),
    finishFlush: constants.Z_SYNC_FLUSH,
  };
}

/** QEMU's readers have a window of 4 KiB (inflateInit2 with -12). */
const WINDOW_BITS = 12;
const ZSTD_MAGIC = 0x28b52ffd;

/** Exactly `clusterSize` bytes, or an error: `stored` may be anything, and has padding of up to a sector at its end. */
export async function decompress(stored: Uint8Array, clusterSize: number, how: Compression): Promise<Uint8Array> {
  codecs ??= loadCodecs();
  const { inflate, unpackZstd, finishFlush } = await codecs;
  const content =
    how === "zlib"
      ? await inflate(stored, { maxOutputLength: clusterSize, finishFlush })
      : await unpackZstd(stored.subarray(0, zstdLength(stored)), { maxOutputLength: clusterSize });
  if (content.length !== clusterSize) throw new Error(`it has ${content.length} bytes instead of ${clusterSize}`);
  return content;
}

/** Undefined where that would not be shorter. */
export async function compress(cluster: Uint8Array, how: Compression): Promise<Uint8Array | undefined> {
  codecs ??= loadCodecs();
  const { deflate, packZstd } = await codecs;
  const stored = how === "zlib" ? await deflate(cluster, { windowBits: WINDOW_BITS }) : await packZstd(cluster);
  return stored.length < cluster.length ? stored : undefined;
}

/** Where the first frame ends (RFC 8878, 3.1.1): what follows it is padding, which the decompressor would refuse. */
function zstdLength(stored: Uint8Array): number {
  const view = new DataView(stored.buffer, stored.byteOffset, stored.byteLength);
  if (stored.length < 6 || view.getUint32(0) !== ZSTD_MAGIC) throw new Error("it is no zstd frame");
  const descriptor = stored[4]!;
  const single = (descriptor & 0x20) !== 0;
  const contentSize = [single ? 1 : 0, 2, 4, 8][descriptor >> 6]!;
  const dictionary = [0, 1, 2, 4][descriptor & 3]!;
  let at = 5 + (single ? 0 : 1) + dictionary + contentSize;
  for (;;) {
    if (at + 3 > stored.length) throw new Error("its zstd frame has no end");
    const block = stored[at]! | (stored[at + 1]! << 8) | (stored[at + 2]! << 16);
    // A run-length block stores one byte, however long it is.
    at += 3 + (((block >> 1) & 3) === 1 ? 1 : block >> 3);
    if ((block & 1) !== 0) break;
  }
  if ((descriptor & 4) !== 0) at += 4;
  if (at > stored.length) throw new Error("its zstd frame has no end");
  return at;
}
