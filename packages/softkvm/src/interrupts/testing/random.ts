/** Random numbers from a seed that a failing test prints. */

export interface Random {
  /** 0 to `below` - 1. */
  (below: number): number;
  readonly seed: number;
}

/** `LODGE_SEED` repeats a run. */
export function seeded(seed = Number(process.env.LODGE_SEED ?? Math.floor(Math.random() * 2 ** 32))): Random {
  // xorshift32; its state is never 0.
  let state = seed | 0 || 1;
  const next = (below: number): number => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return Math.floor(((state >>> 0) / 2 ** 32) * below);
  };
  return Object.assign(next, { seed });
}

export function pick<T>(random: Random, from: readonly T[]): T {
  return from[random(from.length)]!;
}
