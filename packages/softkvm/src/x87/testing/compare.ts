/** What differs between two outcomes of a case, in words. */

import { Field } from "./record.ts";
import { sameFlags } from "./subject.ts";

export function st(record: DataView, index: number): string {
  const at = Field.st + index * 10;
  const high = record
    .getUint16(at + 8, true)
    .toString(16)
    .padStart(4, "0");
  return `${high}:${record.getBigUint64(at, true).toString(16).padStart(16, "0")}`;
}

export function differences(expected: DataView, actual: DataView): string[] {
  const found: string[] = [];
  const note = (name: string, wanted: string, got: string) => {
    if (wanted !== got) found.push(`${name} ${got}, not ${wanted}`);
  };
  const hex = (record: DataView, at: number) => record.getUint16(at, true).toString(16);
  note("signal", `${expected.getUint8(Field.length)}`, `${actual.getUint8(Field.length)}`);
  for (const name of ["fcw", "fsw", "fop"] as const) note(name, hex(expected, Field[name]), hex(actual, Field[name]));
  note("ftw", expected.getUint8(Field.ftw).toString(2), actual.getUint8(Field.ftw).toString(2));
  for (const name of ["fip", "fdp", "rax"] as const) {
    const read = (record: DataView) => record.getBigUint64(Field[name], true).toString(16);
    note(name, read(expected), read(actual));
  }
  for (let index = 0; index < 8; index++) note(`ST(${index})`, st(expected, index), st(actual, index));
  const memory = (record: DataView) =>
    Buffer.from(record.buffer, record.byteOffset + Field.memory, 112).toString("hex");
  const [wanted, got] = [memory(expected), memory(actual)];
  if (wanted !== got) {
    const first = [...wanted].findIndex((digit, index) => digit !== got[index]) & ~1;
    note(`memory+${first / 2}`, wanted.slice(first, first + 32), got.slice(first, first + 32));
  }
  const flags = (record: DataView) => record.getBigUint64(Field.rflags, true);
  if (!sameFlags(flags(expected), flags(actual))) {
    note("rflags", (flags(expected) & 0x8d5n).toString(16), (flags(actual) & 0x8d5n).toString(16));
  }
  return found;
}

/** A case in words: enough to repeat it. */
export function describe(record: DataView): string {
  const word = (at: number) => record.getUint16(at, true).toString(16);
  const code = Buffer.from(record.buffer, record.byteOffset + Field.code, record.getUint8(Field.length)).toString(
    "hex",
  );
  const memory = Buffer.from(record.buffer, record.byteOffset + Field.memory, 10).toString("hex");
  const registers = Array.from({ length: 8 }, (_, index) => st(record, index)).join(" ");
  const tags = record.getUint8(Field.ftw).toString(2).padStart(8, "0");
  return `${code} fcw ${word(Field.fcw)} fsw ${word(Field.fsw)} ftw ${tags} memory ${memory}\n    ST ${registers}`;
}
