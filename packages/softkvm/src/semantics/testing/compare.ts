/** What differs between two outcomes, in words. */

import type { Outcome } from "./native.ts";

const RSP = 4;
/** The six arithmetic flags and DF. */
const FLAGS = 0xcd5n;

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");

export function differences(found: Outcome, expected: Outcome): string[] {
  const list: string[] = [];
  const note = (name: string, a: string | number, b: string | number) => {
    if (a !== b) list.push(`${name} is ${a}, not ${b}`);
  };
  note("vector", found.vector, expected.vector);
  for (const [index, value] of expected.gpr.entries()) {
    if (index !== RSP) note(`register ${index}`, found.gpr[index]!.toString(16), value.toString(16));
  }
  note("flags", (found.flags & FLAGS).toString(16), (expected.flags & FLAGS).toString(16));
  const part = (name: string, from: number, to: number) =>
    note(name, hex(found.fx.subarray(from, to)), hex(expected.fx.subarray(from, to)));
  part("fcw, fsw, ftw", 0, 5);
  part("mxcsr", 24, 28);
  for (let index = 0; index < 8; index++) part(`st${index}`, 32 + index * 16, 42 + index * 16);
  for (let index = 0; index < 16; index++) part(`xmm${index}`, 160 + index * 16, 176 + index * 16);
  for (let index = 0; index < 16; index++) {
    const half = ({ upper }: Outcome) => hex(upper.subarray(index * 16, index * 16 + 16));
    note(`ymm${index}'s upper half`, half(found), half(expected));
  }
  note("memory", hex(found.data), hex(expected.data));
  return list;
}
