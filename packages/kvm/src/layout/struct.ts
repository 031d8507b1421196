/**
 * Declared binary layouts: a structure is written once, as its fields in order, and read and written through a
 * `DataView`. Offsets follow the C rules (each field at a multiple of its alignment); a test holds them against the
 * kernel's own headers.
 */

/** How one field lies in memory, and what it is in JavaScript. Everything is little-endian, as on every x86. */
export interface FieldType<T> {
  readonly size: number;
  readonly align: number;
  read(view: DataView, offset: number): T;
  write(view: DataView, offset: number, value: T): void;
  /** Set on plain numbers. */
  readonly scalar?: Scalar;
  /** Set on padding: it has no value, is left out of records and written as zeros. */
  readonly padding?: true;
}

/** The numbers that a DataView knows. Structures read and write them without calling their fields' functions. */
const Scalar = { U8: 0, U16: 1, U32: 2, I32: 3, U64: 4, I64: 5 } as const;
type Scalar = (typeof Scalar)[keyof typeof Scalar];

function scalar<T extends number | bigint>(kind: Scalar, size: number): FieldType<T> {
  return {
    size,
    align: size,
    scalar: kind,
    read: (view, offset) => readScalar(view, offset, kind) as T,
    write: (view, offset, value) => writeScalar(view, offset, kind, value),
  };
}

function readScalar(view: DataView, offset: number, kind: Scalar): number | bigint {
  switch (kind) {
    case Scalar.U8:
      return view.getUint8(offset);
    case Scalar.U16:
      return view.getUint16(offset, true);
    case Scalar.U32:
      return view.getUint32(offset, true);
    case Scalar.I32:
      return view.getInt32(offset, true);
    case Scalar.U64:
      return view.getBigUint64(offset, true);
    case Scalar.I64:
      return view.getBigInt64(offset, true);
  }
}

function writeScalar(view: DataView, offset: number, kind: Scalar, value: number | bigint): void {
  switch (kind) {
    case Scalar.U8:
      view.setUint8(offset, value as number);
      break;
    case Scalar.U16:
      view.setUint16(offset, value as number, true);
      break;
    case Scalar.U32:
      view.setUint32(offset, value as number, true);
      break;
    case Scalar.I32:
      view.setInt32(offset, value as number, true);
      break;
    case Scalar.U64:
      view.setBigUint64(offset, value as bigint, true);
      break;
    case Scalar.I64:
      view.setBigInt64(offset, value as bigint, true);
      break;
  }
}

export const u8 = scalar<number>(Scalar.U8, 1);
export const u16 = scalar<number>(Scalar.U16, 2);
export const u32 = scalar<number>(Scalar.U32, 4);
export const i32 = scalar<number>(Scalar.I32, 4);
/** 64 bits whose every value counts: registers, MSRs, bit sets. */
export const u64 = scalar<bigint>(Scalar.U64, 8);
export const i64 = scalar<bigint>(Scalar.I64, 8);

/** A u64 that is an address, a size or a count: exact as a number, because it stays below 2^53. */
export const address: FieldType<number> = { size: 8, align: 8, read: readNumber64, write: writeNumber64 };

/** A little-endian u64 below 2^53, six times faster than by way of a bigint. */
export function readNumber64(view: DataView, offset: number): number {
  return view.getUint32(offset, true) + view.getUint32(offset + 4, true) * 2 ** 32;
}

export function writeNumber64(view: DataView, offset: number, value: number): void {
  view.setUint32(offset, value, true);
  view.setUint32(offset + 4, value / 2 ** 32, true);
}

/** Raw bytes, read as a copy. A value that is too short or too long is refused. */
export function bytes(length: number): FieldType<Uint8Array> {
  return {
    size: length,
    align: 1,
    read: (view, offset) => new Uint8Array(view.buffer, view.byteOffset + offset, length).slice(),
    write: (view, offset, value) => {
      if (value.length !== length) throw new RangeError(`${value.length} bytes where the layout has ${length}`);
      new Uint8Array(view.buffer, view.byteOffset + offset, length).set(value);
    },
  };
}

/** A fixed number of the same field. */
export interface ArrayField<T> extends FieldType<T[]> {
  readonly element: FieldType<T>;
}

export function array<T>(element: FieldType<T>, length: number): ArrayField<T> {
  return {
    element,
    size: element.size * length,
    align: element.align,
    read: (view, offset) => {
      // Array.from takes longer than the rest of the system registers.
      const items: T[] = [];
      for (let index = 0; index < length; index++) items.push(element.read(view, offset + index * element.size));
      return items;
    },
    write: (view, offset, value) => {
      if (value.length !== length) throw new RangeError(`${value.length} elements where the layout has ${length}`);
      for (let index = 0; index < length; index++) element.write(view, offset + index * element.size, value[index]!);
    },
  };
}

/** Padding or reserved space: zeros that nobody names. */
export interface Padding extends FieldType<undefined> {
  readonly padding: true;
}

export function padding(element: FieldType<number> | FieldType<bigint>, length = 1): Padding {
  const size = element.size * length;
  return {
    size,
    align: element.align,
    padding: true,
    read: () => undefined,
    write: (view, offset) => {
      for (let index = 0; index < size; index++) view.setUint8(offset + index, 0);
    },
  };
}

// biome-ignore lint/suspicious/noExplicitAny: FieldType is invariant, and any field will do
type Fields = Record<string, FieldType<any>>;

/** The JavaScript record of a set of fields, without the padding. */
export type RecordOf<F extends Fields> = {
  [K in keyof F as F[K] extends Padding ? never : K]: F[K] extends FieldType<infer T> ? T : never;
};

/** A structure: itself a field, with its fields' offsets. */
export interface Struct<F extends Fields> extends FieldType<RecordOf<F>> {
  /** The name in the kernel's headers, without `struct`. */
  readonly name: string;
  readonly fields: F;
  /** Byte offsets from the start of the structure. */
  readonly offset: { readonly [K in keyof F]: number };
  /** A buffer of exactly this structure. */
  encode(value: RecordOf<F>): DataView<ArrayBuffer>;
  decode(view: DataView): RecordOf<F>;
  /** A zeroed buffer for a call that fills it. */
  allocate(): DataView<ArrayBuffer>;
}

/** What a structure reads as: `type Regs = Infer<typeof Regs>`. */
export type Infer<S> = S extends FieldType<infer T> ? T : never;

/**
 * Declares a structure. `name` is the kernel's; fields take the kernel's names in camel case and its order.
 */
export function struct<F extends Fields>(name: string, fields: F): Struct<F> {
  const entries: { key: string; type: FieldType<unknown>; offset: number }[] = [];
  const offsets: Record<string, number> = {};
  let end = 0;
  let align = 1;
  for (const [key, type] of Object.entries(fields)) {
    const offset = alignUp(end, type.align);
    offsets[key] = offset;
    entries.push({ key, type, offset });
    end = offset + type.size;
    align = Math.max(align, type.align);
  }
  const size = alignUp(end, align);

  const values = entries.filter(({ type }) => !type.padding);
  /** A record with all fields, so that a new one has its shape at once instead of field by field. */
  const blank = Object.fromEntries(values.map(({ key }) => [key, undefined])) as Record<string, unknown>;

  const read = (view: DataView, base: number): RecordOf<F> => {
    const record = { ...blank };
    for (let index = 0; index < values.length; index++) {
      const { key, type, offset } = values[index]!;
      const { scalar } = type;
      record[key] = scalar === undefined ? type.read(view, base + offset) : readScalar(view, base + offset, scalar);
    }
    return record as RecordOf<F>;
  };
  const write = (view: DataView, base: number, value: RecordOf<F>): void => {
    const record = value as Record<string, unknown>;
    for (let index = 0; index < entries.length; index++) {
      const { key, type, offset } = entries[index]!;
      const field = record[key];
      if (field === undefined && !type.padding) throw new TypeError(`${name}: the field ${key} is missing`);
      const { scalar } = type;
      if (scalar === undefined) type.write(view, base + offset, field);
      else writeScalar(view, base + offset, scalar, field as number | bigint);
    }
  };
  const allocate = () => new DataView(new ArrayBuffer(size));
  return {
    name,
    fields,
    size,
    align,
    offset: offsets as { [K in keyof F]: number },
    read,
    write,
    allocate,
    encode: (value) => {
      const view = allocate();
      write(view, 0, value);
      return view;
    },
    decode: (view) => read(view, 0),
  };
}

function alignUp(value: number, align: number): number {
  return Math.ceil(value / align) * align;
}
