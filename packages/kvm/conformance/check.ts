/** What cases check with. An assertion library would do, but the suite also runs where there is no Node. */

import { KvmError, type KvmErrorCode } from "../src/index.ts";

export class CheckFailed extends Error {
  override readonly name = "CheckFailed";
}

/** Thrown by a case that finds out on the way that this host cannot pass it. The message is the reason. */
export class Unsupported extends Error {
  override readonly name = "Unsupported";
}

export function ok(condition: boolean, what: string): asserts condition {
  if (!condition) throw new CheckFailed(what);
}

/** Equal in value: records, arrays and byte arrays are compared by their content. */
export function equal(actual: unknown, expected: unknown, what: string): void {
  const path = difference(actual, expected, "");
  if (path === undefined) return;
  const at = path === "" ? "" : ` (first difference at ${path})`;
  throw new CheckFailed(`${what}${at}: expected ${show(expected)}, got ${show(actual)}`);
}

/** The call is refused with this code, and the message contains these words. */
export function refused(call: () => unknown, code: KvmErrorCode, words: string): void {
  let outcome: unknown;
  try {
    outcome = call();
  } catch (error) {
    ok(error instanceof KvmError, `refused with something else than a KvmError: ${error}`);
    equal(error.code, code, `the code of "${error.message}"`);
    ok(error.message.includes(words), `"${words}" is not in the message "${error.message}"`);
    return;
  }
  throw new CheckFailed(`expected a refusal (${code}), got ${show(outcome)}`);
}

/** The path to the first difference; "" for the values themselves. */
function difference(actual: unknown, expected: unknown, path: string): string | undefined {
  if (Object.is(actual, expected)) return undefined;
  if (typeof actual !== "object" || typeof expected !== "object" || actual === null || expected === null) return path;
  if (actual instanceof Uint8Array && expected instanceof Uint8Array && actual.length === expected.length) {
    // A guest's memory by way of property names takes half a minute in the lab.
    const index = actual.findIndex((byte, at) => byte !== expected[at]);
    return index < 0 ? undefined : below(path, String(index));
  }
  const keys = new Set([...Object.keys(actual), ...Object.keys(expected)]);
  for (const key of keys) {
    const found = difference(
      (actual as Record<string, unknown>)[key],
      (expected as Record<string, unknown>)[key],
      below(path, key),
    );
    if (found !== undefined) return found;
  }
  return undefined;
}

function below(path: string, key: string): string {
  return path === "" ? key : `${path}.${key}`;
}

const SHOWN = 400;

function show(value: unknown): string {
  const text =
    JSON.stringify(value, (_, part) => {
      if (typeof part === "bigint" || typeof part === "number") return hex(part);
      if (ArrayBuffer.isView(part)) return Array.from(part as Uint8Array, hex).join(" ");
      return part;
    }) ?? String(value);
  const plain = text.replaceAll('"', "");
  return plain.length > SHOWN ? `${plain.slice(0, SHOWN)}…` : plain;
}

export function hex(value: number | bigint): string {
  return Number.isInteger(value) || typeof value === "bigint" ? `0x${value.toString(16)}` : String(value);
}
