/**
 * Comparisons that hold on a noisy machine: both sides in one run, round by round in turn, and of their rounds the median.
 * Figures are times or sizes: less is better.
 */

/** Measures once. */
export type Side = () => number | Promise<number>;

export interface Comparison {
  what: string;
  unit: string;
  ours: number;
  theirs: number;
  ratio: number;
  /** The largest ratio that is good enough. */
  limit?: number;
  rounds: number;
}

export interface Figure {
  what: string;
  unit: string;
  value: number;
}

/** What a benchmark found. */
export interface Results {
  /** Who the other side of the comparisons is. */
  against: string;
  comparisons: Comparison[];
  figures: Figure[];
}

export interface CompareOptions {
  what: string;
  unit: string;
  ours: Side;
  theirs: Side;
  rounds: number;
  limit?: number;
}

/** Runs both sides in turn; who begins changes with every round. One round more goes ahead and is not counted. */
export async function compare({ what, unit, ours, theirs, rounds, limit }: CompareOptions): Promise<Comparison> {
  const figures = { ours: [] as number[], theirs: [] as number[] };
  for (let round = 0; round <= rounds; round++) {
    const order = round % 2 === 0 ? (["ours", "theirs"] as const) : (["theirs", "ours"] as const);
    for (const side of order) {
      const figure = await { ours, theirs }[side]();
      if (round > 0) figures[side].push(figure);
    }
  }
  const [a, b] = [median(figures.ours), median(figures.theirs)];
  return { what, unit, ours: a, theirs: b, ratio: a / b, rounds, ...(limit !== undefined && { limit }) };
}

export function median(values: readonly number[]): number {
  if (values.length === 0) throw new RangeError("the median of nothing");
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
