/** The internet checksum (RFC 1071) and what it is taken over. */

/** The sum of 16-bit words from `from` up to `to`, added to `sum`; not folded. Frames are short enough for 2^53. */
export function addWords(bytes: Uint8Array, from: number, to: number, sum = 0): number {
  let at = from;
  let total = sum;
  for (const last = to - 1; at < last; at += 2) total += (bytes[at]! << 8) | bytes[at + 1]!;
  return at < to ? total + (bytes[at]! << 8) : total;
}

/** Carries brought back in. */
export function fold(sum: number): number {
  let folded = sum;
  while (folded > 0xffff) folded = (folded & 0xffff) + Math.floor(folded / 0x10000);
  return folded;
}

/** What a header's field holds for such a sum. */
export function checksumOf(sum: number): number {
  return ~fold(sum) & 0xffff;
}

/** The sum of the pseudo-header of UDP, TCP and ICMPv6 (RFC 9293, 3.1; RFC 8200, 8.1). */
export function pseudoHeader(source: Uint8Array, destination: Uint8Array, protocol: number, length: number): number {
  const sum = addWords(source, 0, source.length, protocol + (length & 0xffff) + (length >>> 16));
  return addWords(destination, 0, destination.length, sum);
}
