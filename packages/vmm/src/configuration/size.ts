/** Sizes as people write them: `512M`, `4G`, `1.5G`, a number of bytes. */

import { VmmError } from "../errors.ts";

const UNITS: Readonly<Record<string, number>> = { "": 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };

/** The bytes of a size; `what` is its name in the refusal. Units are powers of 1024; `MiB` and `MB` are taken for `M`. */
export function parseSize(text: string | number, what: string): number {
  if (typeof text === "number") return checked(text, String(text), what);
  const found = /^(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?$/i.exec(text.trim());
  const unit = UNITS[found?.[2]?.toUpperCase() ?? "none"];
  if (found === null || unit === undefined) {
    throw new VmmError("VMM_CONFIG", `${what} ${JSON.stringify(text)} is no size: write 512M, 4G or a number of bytes`);
  }
  return checked(Number(found[1]) * unit, text, what);
}

function checked(bytes: number, text: string, what: string): number {
  if (Number.isSafeInteger(bytes) && bytes >= 0) return bytes;
  throw new VmmError("VMM_CONFIG", `${what} ${text} is no whole number of bytes, or more than can be counted`);
}

/** Bytes as people read them: the largest unit in which they are a whole number. */
export function formatSize(bytes: number): string {
  for (const [name, unit] of Object.entries(UNITS).toReversed()) {
    if (bytes !== 0 && bytes % unit === 0) return `${bytes / unit}${name}`;
  }
  return String(bytes);
}
