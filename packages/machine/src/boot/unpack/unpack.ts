/** Unpacks kernels. Few starts need it, since what was unpacked is kept: it is loaded by those. */

import { gunzipSync } from "node:zlib";
import { packedForm } from "./form.ts";
import { unpackLz4Legacy } from "./lz4.ts";
import { unpackXz } from "./xz.ts";
import { unpackZstd } from "./zstd.ts";

/** No kernel is larger; a hostile file ends here instead of with the host's memory. */
const LIMIT = 512 * 2 ** 20;

/** The content of a packed kernel; undefined when it is in no form known here. */
export function unpack(payload: Uint8Array): Uint8Array | undefined {
  switch (packedForm(payload)) {
    case "gzip":
      return gunzipSync(payload, { maxOutputLength: LIMIT });
    case "zstd":
      return unpackZstd(payload, LIMIT);
    case "lz4":
      return unpackLz4Legacy(payload, LIMIT);
    case "xz":
      return unpackXz(payload, LIMIT);
    default:
      return undefined;
  }
}
