/**
 * Saved state: named, versioned records of JSON's values, so that they can be kept and sent. A device declares its
 * fields once; what it is restored from is checked against them, as it comes from a file or from another host.
 */

import { DeviceError } from "./errors.ts";

/** What a device saves. `device` and `version` say who can read it. */
export interface SavedState {
  readonly device: string;
  readonly version: number;
  readonly [field: string]: unknown;
}

/** One kind of field: passes the value through or refuses it. */
export interface Field<T> {
  check(value: unknown): T;
}

/** What a field's check refuses, with the way to it from the record's top. */
class Refused extends Error {
  readonly path: readonly string[];
  constructor(message: string, path: readonly string[] = []) {
    super(message);
    this.path = path;
  }
}

function refuse(value: unknown, wanted: string): never {
  const text = JSON.stringify(value) ?? String(value);
  throw new Refused(`is ${text.length > 40 ? `${text.slice(0, 40)}…` : text}, not ${wanted}`);
}

/** Checks a part and says in what it refuses which part that is. */
function part<T>(name: string, field: Field<T>, value: unknown): T {
  try {
    return field.check(value);
  } catch (cause) {
    if (cause instanceof Refused) throw new Refused(cause.message, [name, ...cause.path]);
    throw cause;
  }
}

export const flag: Field<boolean> = {
  check: (value) => (typeof value === "boolean" ? value : refuse(value, "true or false")),
};

/** A whole number from `min` to `max`, both included. */
export function integer(min: number, max: number): Field<number> {
  return {
    check: (value) =>
      typeof value === "number" && Number.isInteger(value) && value >= min && value <= max
        ? value
        : refuse(value, `a whole number from ${min} to ${max}`),
  };
}

export const u8 = integer(0, 0xff);
export const u16 = integer(0, 0xffff);
export const u32 = integer(0, 0xffffffff);
/** An address, a size or a count below 2^53. */
export const address = integer(0, Number.MAX_SAFE_INTEGER);

/** 64 bits: a bigint that is kept as hexadecimal text. */
export const u64: Field<string> = {
  check: (value) =>
    typeof value === "string" && /^0x[0-9a-f]{1,16}$/.test(value) ? value : refuse(value, "64 bits in hexadecimal"),
};

/** Text of up to `maxLength` UTF-16 units. */
export function text(maxLength: number): Field<string> {
  return {
    check: (value) =>
      typeof value === "string" && value.length <= maxLength
        ? value
        : refuse(value, `text of up to ${maxLength} characters`),
  };
}

/** Bytes, kept as base64. */
export function bytes(maxLength: number): Field<string> {
  return {
    check: (value) =>
      typeof value === "string" && /^[A-Za-z0-9+/]*={0,2}$/.test(value) && value.length <= Math.ceil(maxLength / 3) * 4
        ? value
        : refuse(value, `up to ${maxLength} bytes in base64`),
  };
}

export function encodeBytes(data: Uint8Array): string {
  return Buffer.from(data.buffer, data.byteOffset, data.length).toString("base64");
}

export function decodeBytes(encoded: string): Uint8Array {
  return new Uint8Array(Buffer.from(encoded, "base64"));
}

export function list<T>(element: Field<T>, maxLength: number): Field<T[]> {
  return {
    check: (value) =>
      Array.isArray(value) && value.length <= maxLength
        ? value.map((item, index) => part(String(index), element, item))
        : refuse(value, `a list of up to ${maxLength}`),
  };
}

/** A field that may be absent. */
export function optional<T>(field: Field<T>): Field<T | undefined> {
  return { check: (value) => (value === undefined || value === null ? undefined : field.check(value)) };
}

type Fields = Record<string, Field<unknown>>;
export type RecordOf<F extends Fields> = { [K in keyof F]: F[K] extends Field<infer T> ? T : never };

/** A group of fields as a field: unknown names are refused, since they mean something that we would lose. */
export function group<F extends Fields>(fields: F): Field<RecordOf<F>> {
  return {
    check: (value) => {
      if (typeof value !== "object" || value === null || Array.isArray(value)) return refuse(value, "a record");
      const source = value as Record<string, unknown>;
      for (const name of Object.keys(source)) {
        if (!Object.hasOwn(fields, name)) throw new Refused("is unknown", [name]);
      }
      const record: Record<string, unknown> = {};
      for (const [name, field] of Object.entries(fields)) record[name] = part(name, field, source[name]);
      return record as RecordOf<F>;
    },
  };
}

/** A device's record: its name, its version and its fields. */
export interface StateRecord<F extends Fields> {
  save(fields: RecordOf<F>): SavedState;
  /** The checked fields; a {@link DeviceError} names the device and the field. */
  restore(saved: SavedState): RecordOf<F>;
}

export type Infer<R> = R extends StateRecord<infer F> ? RecordOf<F> : never;

export function stateRecord<F extends Fields>(device: string, version: number, fields: F): StateRecord<F> {
  const content = group(fields);
  const fail = (message: string) => new DeviceError("DEVICE_STATE", `the saved state of ${device}${message}`);
  return {
    save: (values) => ({ device, version, ...values }),
    restore: (saved) => {
      const { device: name, version: savedVersion, ...rest } = saved;
      if (name !== device) throw fail(` was wanted, that of ${JSON.stringify(name)} was given`);
      if (savedVersion !== version) {
        throw fail(` has version ${JSON.stringify(savedVersion)}; this Lodge reads version ${version}`);
      }
      try {
        return content.check(rest);
      } catch (cause) {
        if (cause instanceof Refused) throw fail(`: ${cause.path.join(".")} ${cause.message}`);
        throw cause;
      }
    },
  };
}
