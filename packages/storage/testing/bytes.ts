/** Bytes that look random and are the same each time. */

import { Random } from "./random.ts";

/** Numbers from 0 up to, not including, `below`. */
export function randomNumbers(seed: number): (below: number) => number {
  const random = new Random(seed);
  return (below) => random.below(below);
}

export function randomBytes(length: number, seed: number): Buffer {
  const random = randomNumbers(seed);
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; at++) bytes[at] = random(256);
  return bytes;
}
