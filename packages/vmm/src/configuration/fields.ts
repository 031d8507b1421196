/** Options with fields, as on a command line: `disk.img,format=raw,readonly`. */

import { VmmError } from "../errors.ts";

export interface Fields {
  /** What stands before the first comma. */
  readonly value: string;
  /** A field without `=` is `on`. */
  readonly named: ReadonlyMap<string, string>;
  /** The values of a field that may be repeated, in their order. */
  readonly listed: (name: string) => readonly string[];
}

/**
 * A comma in a value is written twice, as QEMU has it. Unknown fields are refused, and repeated ones unless they are
 * `lists`: their values are in {@link Fields.listed}.
 */
export function parseFields(
  text: string,
  option: string,
  known: readonly string[],
  lists: readonly string[] = [],
): Fields {
  // No path or option can hold the NUL that stands for a comma meanwhile.
  const parts = text
    .replaceAll(",,", "\0")
    .split(",")
    .map((part) => part.replaceAll("\0", ","));
  const [value = "", ...rest] = parts;
  const named = new Map<string, string>();
  const listed = new Map<string, string[]>();
  for (const part of rest) {
    const at = part.indexOf("=");
    const name = at < 0 ? part : part.slice(0, at);
    const refuse = (why: string): never => {
      throw new VmmError("VMM_CONFIG", `${option} ${text}: ${why}`);
    };
    const value = at < 0 ? "on" : part.slice(at + 1);
    if (lists.includes(name)) {
      listed.set(name, [...(listed.get(name) ?? []), value]);
      continue;
    }
    if (!known.includes(name)) {
      const all = [...known, ...lists];
      const list = all.length === 0 ? "it has no fields" : `it has ${all.join(", ")}`;
      refuse(`there is no field ${JSON.stringify(name)}; ${list}`);
    }
    if (named.has(name)) refuse(`${name} stands there twice`);
    named.set(name, value);
  }
  return { value, named, listed: (name) => listed.get(name) ?? [] };
}

/** A field that is on or off. */
export function parseSwitch(text: string | undefined, what: string): boolean {
  if (text === undefined || text === "off" || text === "no" || text === "false") return false;
  if (text === "on" || text === "yes" || text === "true") return true;
  throw new VmmError("VMM_CONFIG", `${what}=${text}: it is on or off`);
}

/** A whole number from 1 on. */
export function parseCount(text: string, what: string): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && Number.isSafeInteger(value) && value >= 1) return value;
  throw new VmmError("VMM_CONFIG", `${what} ${JSON.stringify(text)} is no number from 1 on`);
}
