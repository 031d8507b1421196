/** Results as text. */

import type { Results } from "./harness.ts";

export function table({ against, comparisons, figures }: Results): string {
  const compared = comparisons.map(({ what, unit, ours, theirs, ratio, limit }) => [
    what,
    quantity(ours, unit),
    quantity(theirs, unit),
    ratio.toFixed(2),
    limit === undefined ? "" : limit.toFixed(2),
    limit !== undefined && ratio > limit ? "over" : "",
  ]);
  const plain = figures.map(({ what, unit, value }) => [what, quantity(value, unit)]);
  const parts = [
    ...(compared.length > 0 ? [align([["", "Lodge", against, "ratio", "limit", ""], ...compared])] : []),
    ...(plain.length > 0 ? [align(plain)] : []),
  ];
  return parts.join("\n\n");
}

function quantity(value: number, unit: string): string {
  return `${value.toFixed(value < 100 ? 1 : 0)} ${unit}`;
}

/** Columns two spaces apart, the first to the left and figures to the right. */
export function align(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => (column === 0 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}
