/**
 * ACPI Machine Language, emitted (ACPI 6.4, chapter 20). A term is the bytes that it is written as; each function is named
 * for the ASL operator that it compiles.
 */

export type Term = readonly number[];

const Op = {
  ZERO: 0x00,
  ONE: 0x01,
  NAME: 0x08,
  BYTE: 0x0a,
  WORD: 0x0b,
  DWORD: 0x0c,
  STRING: 0x0d,
  QWORD: 0x0e,
  SCOPE: 0x10,
  BUFFER: 0x11,
  PACKAGE: 0x12,
  METHOD: 0x14,
  DUAL_NAME: 0x2e,
  MULTI_NAME: 0x2f,
  EXTENDED: 0x5b,
  LOCAL0: 0x60,
  ARG0: 0x68,
  STORE: 0x70,
  AND: 0x7b,
  OPERATION_REGION: 0x80,
  FIELD: 0x81,
  DEVICE: 0x82,
  NOTIFY: 0x86,
  IF: 0xa0,
  RETURN: 0xa4,
} as const;

/** Little-endian bytes of a number that may be as large as 2^53. Each start makes some hundreds, before any code is warm. */
export function little(value: number, bytes: number): number[] {
  const result: number[] = [];
  for (let rest = value; result.length < bytes; rest = Math.floor(rest / 256)) result.push(rest % 256);
  return result;
}

/** Terms one behind the other. Spreading them in an array's literal takes an engine that has just been started ten times as long. */
export function join(...terms: Term[]): Term {
  return ([] as number[]).concat(...terms);
}

/** Characters of ASCII, which is all there is in AML. */
function ascii(text: string): number[] {
  const result: number[] = [];
  for (let at = 0; at < text.length; at++) result.push(text.charCodeAt(at));
  return result;
}

export function integer(value: number): Term {
  if (value === 0) return [Op.ZERO];
  if (value === 1) return [Op.ONE];
  if (value < 2 ** 8) return [Op.BYTE, value];
  if (value < 2 ** 16) return [Op.WORD, ...little(value, 2)];
  if (value < 2 ** 32) return [Op.DWORD, ...little(value, 4)];
  return [Op.QWORD, ...little(value, 8)];
}

export function string(text: string): Term {
  return [Op.STRING, ...ascii(text), 0];
}

/** A name such as `\_SB.PCI0`: segments of up to four characters, padded with underscores (20.2.2). */
function nameString(name: string): Term {
  const root = name.startsWith("\\") ? [0x5c] : [];
  const segments = name.replace("\\", "").split(".");
  const bytes = ascii(segments.map((segment) => segment.padEnd(4, "_")).join(""));
  if (segments.length === 1) return [...root, ...bytes];
  if (segments.length === 2) return [...root, Op.DUAL_NAME, ...bytes];
  return [...root, Op.MULTI_NAME, segments.length, ...bytes];
}

/** PkgLength (20.2.4) and the content: the length counts its own bytes. */
function sized(content: Term): Term {
  const { length } = content;
  if (length + 1 < 64) return join([length + 1], content);
  for (const further of [1, 2, 3]) {
    const total = length + 1 + further;
    if (total >= 2 ** (4 + 8 * further)) continue;
    return join([(further << 6) | (total & 15)], little(total >> 4, further), content);
  }
  throw new RangeError(`a package of ${length} bytes in AML`);
}

export function scope(name: string, ...terms: Term[]): Term {
  return join([Op.SCOPE], sized(join(nameString(name), ...terms)));
}

export function device(name: string, ...terms: Term[]): Term {
  return join([Op.EXTENDED, Op.DEVICE], sized(join(nameString(name), ...terms)));
}

export function name(key: string, value: Term): Term {
  return join([Op.NAME], nameString(key), value);
}

export function method(key: string, argumentCount: number, ...terms: Term[]): Term {
  return join([Op.METHOD], sized(join(nameString(key), [argumentCount], ...terms)));
}

export function returns(value: Term): Term {
  return [Op.RETURN, ...value];
}

export function argument(index: number): Term {
  return [Op.ARG0 + index];
}

export function local(index: number): Term {
  return [Op.LOCAL0 + index];
}

/** The value of a name: of a field what it reads, of a method what it returns. */
export function call(name: string): Term {
  return nameString(name);
}

/** Into a name, or a local variable. */
export function store(value: Term, target: string | Term): Term {
  return [Op.STORE, ...value, ...(typeof target === "string" ? nameString(target) : target)];
}

/** Its result is used where it stands, and stored nowhere. */
export function and(left: Term, right: Term): Term {
  return [Op.AND, ...left, ...right, Op.ZERO];
}

export function ifSo(condition: Term, ...terms: Term[]): Term {
  return join([Op.IF], sized(join(condition, ...terms)));
}

export function notify(object: string, value: Term): Term {
  return [Op.NOTIFY, ...nameString(object), ...value];
}

const SYSTEM_IO = 1;

export function portRegion(key: string, start: number, ports: number): Term {
  return [Op.EXTENDED, Op.OPERATION_REGION, ...nameString(key), SYSTEM_IO, ...integer(start), ...integer(ports)];
}

/** 32-bit registers from a region's start, accessed as such, without a lock; bits that are not written are zeros. */
const DWORDS_WRITE_AS_ZEROS = 0x43;
const DWORD_BITS = 32;

export function fields(region: string, ...names: string[]): Term {
  const list = names.flatMap((key) => [...nameString(key), DWORD_BITS]);
  return [Op.EXTENDED, Op.FIELD, ...sized([...nameString(region), DWORDS_WRITE_AS_ZEROS, ...list])];
}

export function packageOf(...elements: Term[]): Term {
  return join([Op.PACKAGE], sized(join([elements.length], ...elements)));
}

export function buffer(bytes: Term): Term {
  return join([Op.BUFFER], sized(join(integer(bytes.length), bytes)));
}

/** A compressed EISA id such as `PNP0A08` (19.3.4): three letters of five bits, four hexadecimal digits, bytes reversed. */
export function eisaId(id: string): Term {
  const letters = [0, 1, 2].reduce((bits, index) => (bits << 5) | (id.charCodeAt(index) - 0x40), 0);
  const value = letters * 2 ** 16 + Number.parseInt(id.slice(3), 16);
  return [Op.DWORD, ...little(value, 4).toReversed()];
}
