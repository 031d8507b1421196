/** As much of a DNS message as a forwarder needs: its header and question, and answers of addresses (RFC 1035, 4). */

import { putU16, putU32, u16 } from "../../packet/ethernet.ts";

const HEADER = 12;
const QR = 0x8000;
const AUTHORITATIVE = 0x0400;
const TRUNCATED = 0x0200;
const RECURSION_AVAILABLE = 0x0080;
/** Opcode, recursion desired and checking disabled: what an answer repeats. */
const REPEATED = 0x7910;
const POINTER_TO_QUESTION = 0xc00c;

export const RecordType = { A: 1, PTR: 12, AAAA: 28, ANY: 255 } as const;
export const ResponseCode = { OK: 0, FORMAT: 1, FAILED: 2, NO_NAME: 3, NOT_IMPLEMENTED: 4, REFUSED: 5 } as const;

export interface Question {
  readonly id: number;
  /** In small letters, without the last dot. */
  readonly name: string;
  readonly type: number;
  /** Where the question ends. */
  readonly end: number;
}

/** The question of a query; undefined for what is no query, or has not exactly one question. */
export function parseQuery(message: Uint8Array): Question | undefined {
  if (message.length < HEADER || u16(message, 2) & QR || u16(message, 4) !== 1) return undefined;
  const labels: string[] = [];
  let at = HEADER;
  for (;;) {
    const length = message[at];
    // A question points nowhere: there is nothing before it.
    if (length === undefined || length > 63 || at - HEADER > 255) return undefined;
    at += 1;
    if (length === 0) break;
    if (at + length > message.length) return undefined;
    labels.push(
      Buffer.from(message.buffer, message.byteOffset + at, length)
        .toString("latin1")
        .toLowerCase(),
    );
    at += length;
  }
  if (at + 4 > message.length) return undefined;
  return { id: u16(message, 0), name: labels.join("."), type: u16(message, at), end: at + 4 };
}

/** An answer to a query: a code, and records of one type. */
export function answer(
  query: Uint8Array,
  { end, type }: Question,
  code: number,
  records: readonly Uint8Array[] = [],
): Uint8Array {
  const size = records.reduce((sum, data) => sum + 12 + data.length, end);
  const message = new Uint8Array(size);
  message.set(query.subarray(0, end));
  const isOurs = code === ResponseCode.OK || code === ResponseCode.NO_NAME;
  const flags = QR | (isOurs ? AUTHORITATIVE : 0) | RECURSION_AVAILABLE | code;
  putU16(message, 2, (u16(query, 2) & REPEATED) | flags);
  putU16(message, 6, records.length);
  putU32(message, 8, 0);
  let at = end;
  for (const data of records) {
    putU16(message, at, POINTER_TO_QUESTION);
    putU16(message, at + 2, type);
    putU16(message, at + 4, 1);
    putU32(message, at + 6, 60);
    putU16(message, at + 10, data.length);
    message.set(data, at + 12);
    at += 12 + data.length;
  }
  return message;
}

/** The answer to a message that could not be read; undefined where it has not even a number. */
export function formatError(message: Uint8Array): Uint8Array | undefined {
  if (message.length < HEADER || u16(message, 2) & QR) return undefined;
  const reply = new Uint8Array(HEADER);
  putU16(reply, 0, u16(message, 0));
  putU16(reply, 2, (u16(message, 2) & REPEATED) | QR | ResponseCode.FORMAT);
  return reply;
}

export function isTruncated(message: Uint8Array): boolean {
  return message.length >= HEADER && (u16(message, 2) & TRUNCATED) !== 0;
}

/** Whether it answers this question. */
export function answers(message: Uint8Array, id: number, query: Uint8Array, { end }: Question): boolean {
  if (message.length < end || u16(message, 0) !== id || !(u16(message, 2) & QR)) return false;
  // The name may come back in other letters; length by length it is the same.
  for (let at = HEADER; at < end; at++) if ((message[at]! | 0x20) !== (query[at]! | 0x20)) return false;
  return true;
}

/** How large an answer over UDP may be: what the query's EDNS record says (RFC 6891), or 512. */
export function answerRoom(query: Uint8Array, { end }: Question): number {
  // An OPT record is a root name, type 41, and its size for a class; it is mostly the only record behind the question.
  const isOnly = u16(query, 6) === 0 && u16(query, 8) === 0 && u16(query, 10) >= 1;
  if (!isOnly || end + 11 > query.length || query[end] !== 0 || u16(query, end + 1) !== 41) return 512;
  return Math.min(Math.max(u16(query, end + 3), 512), 4096);
}

/** What is too large for UDP: the question, and that there is more by TCP. */
export function truncate(message: Uint8Array, { end }: Question): Uint8Array {
  const short = message.slice(0, end);
  putU16(short, 2, u16(short, 2) | TRUNCATED);
  putU16(short, 6, 0);
  putU32(short, 8, 0);
  return short;
}

/** A name as messages have it; undefined for what is none. */
export function encodeName(name: string): Uint8Array | undefined {
  const bytes: number[] = [];
  for (const label of name.replace(/\.$/, "").split(".")) {
    if (!/^[\x21-\x2d\x2f-\x7e]{1,63}$/.test(label)) return undefined;
    bytes.push(label.length, ...Buffer.from(label, "latin1"));
  }
  return bytes.length < 255 ? Uint8Array.from([...bytes, 0]) : undefined;
}

/** The address that a PTR name asks for; undefined for another name. */
export function reverseName(address: Uint8Array): string {
  if (address.length === 4) return `${[...address].reverse().join(".")}.in-addr.arpa`;
  const digits = Array.from(address, (byte) => [byte >> 4, byte & 15]).flat();
  return `${digits
    .reverse()
    .map((digit) => digit.toString(16))
    .join(".")}.ip6.arpa`;
}
