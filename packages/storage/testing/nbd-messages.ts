/** What an NBD client sends, as bytes: for tests that send what no client would. */

import {
  Handshake,
  OPTION_HEADER_BYTES,
  OPTION_MAGIC,
  REQUEST_BYTES,
  REQUEST_MAGIC,
  writeNumber64,
} from "../src/nbd/protocol.ts";

export function clientFlags(flags = Handshake.FIXED_NEWSTYLE | Handshake.NO_ZEROES): Buffer {
  return u32(flags);
}

export function option(number: number, ...data: Buffer[]): Buffer {
  const header = Buffer.alloc(OPTION_HEADER_BYTES);
  header.writeBigUInt64BE(OPTION_MAGIC, 0);
  header.writeUInt32BE(number, 8);
  const body = Buffer.concat(data);
  header.writeUInt32BE(body.length, 12);
  return Buffer.concat([header, body]);
}

export function text(value: string): Buffer {
  return Buffer.concat([u32(Buffer.byteLength(value)), Buffer.from(value)]);
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

export function u16s(...values: number[]): Buffer {
  const bytes = Buffer.alloc(2 * values.length);
  for (const [index, value] of values.entries()) bytes.writeUInt16BE(value, 2 * index);
  return bytes;
}

export function request(
  type: number,
  cookie: number,
  offset: number,
  length: number,
  data?: Buffer,
  flags = 0,
): Buffer {
  const header = Buffer.alloc(REQUEST_BYTES);
  header.writeUInt32BE(REQUEST_MAGIC, 0);
  header.writeUInt16BE(flags, 4);
  header.writeUInt16BE(type, 6);
  writeNumber64(header, cookie, 8);
  writeNumber64(header, offset, 16);
  header.writeUInt32BE(length, 24);
  return data === undefined ? header : Buffer.concat([header, data]);
}
