/** Unpacks kernels in the forms that their build knows (the kernel's scripts/Makefile.lib). */

import { gunzipSync } from "node:zlib";
import { unpackLz4Legacy } from "./lz4.ts";
import { unpackXz } from "./xz.ts";
import { unpackZstd } from "./zstd.ts";

/** No kernel is larger; a hostile file ends here instead of with the host's memory. */
const LIMIT = 512 * 2 ** 20;

/** The content of a packed kernel; undefined when it is in no form known here. */
export function unpack(payload: Uint8Array): Uint8Array | undefined {
  if (begins(payload, [0x1f, 0x8b])) return gunzipSync(payload, { maxOutputLength: LIMIT });
  if (begins(payload, [0x28, 0xb5, 0x2f, 0xfd])) return unpackZstd(payload, LIMIT);
  if (begins(payload, [0x02, 0x21, 0x4c, 0x18])) return unpackLz4Legacy(payload, LIMIT);
  if (begins(payload, [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00])) return unpackXz(payload, LIMIT);
  return undefined;
}

function begins(bytes: Uint8Array, magic: readonly number[]): boolean {
  return magic.every((byte, index) => bytes[index] === byte);
}
