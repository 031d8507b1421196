/** Sizes as qemu-img takes and shows them. */

import { InvalidArgumentError } from "commander";

const UNITS = "kMGTPE";

/** `512`, `64k`, `1.5G`: in bytes, units are powers of 1024. */
export function parseSize(text: string): number {
  const [, number, unit] = /^(\d+(?:\.\d+)?)([bBkKmMgGtTpPeE]?)$/.exec(text) ?? [];
  const power = unit === undefined ? 0 : UNITS.toUpperCase().indexOf(unit.toUpperCase() || " ") + 1;
  const bytes = Math.round(Number(number) * 1024 ** power);
  if (number === undefined || !Number.isSafeInteger(bytes)) {
    throw new InvalidArgumentError(`${text} is no size: write a number of bytes, or with a unit such as 64k or 20G`);
  }
  return bytes;
}

/** The size of a disk: whole sectors. */
export function parseDiskSize(text: string): number {
  return Math.ceil(parseSize(text) / 512) * 512;
}

/** Three digits and a unit, as qemu-img has it. */
export function showSize(bytes: number): string {
  let unit = 0;
  while (bytes / 1024 ** unit >= 1000 && unit < UNITS.length) unit += 1;
  const value = Number((bytes / 1024 ** unit).toPrecision(3));
  return `${value} ${unit === 0 ? "B" : `${UNITS[unit - 1]!.toUpperCase()}iB`}`;
}

export function wholeNumber(least: number, most: number): (text: string) => number {
  return (text) => {
    const number = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
    if (!(number >= least && number <= most)) {
      throw new InvalidArgumentError(`${text} is not a whole number from ${least} to ${most}`);
    }
    return number;
  };
}
