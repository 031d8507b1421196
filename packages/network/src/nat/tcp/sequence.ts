/** Sequence numbers (RFC 9293, 3.4): modulo 2^32, compared by which is ahead of which by less than half of that. */

/** How far `b` is ahead of `a`; negative if it is behind. */
export function distance(a: number, b: number): number {
  return (b - a) | 0;
}

export function isBefore(a: number, b: number): boolean {
  return ((a - b) | 0) < 0;
}

export function later(a: number, b: number): number {
  return isBefore(a, b) ? b : a;
}

export function earlier(a: number, b: number): number {
  return isBefore(a, b) ? a : b;
}

export function plus(a: number, count: number): number {
  return (a + count) >>> 0;
}
