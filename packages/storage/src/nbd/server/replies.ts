/** What a server answers to requests: simple replies, or structured ones when the client took them. */

import { totalBytes } from "../../file/pieces.ts";
import {
  CHUNK_DONE,
  CHUNK_HEADER_BYTES,
  Chunk,
  SIMPLE_REPLY_BYTES,
  SIMPLE_REPLY_MAGIC,
  STRUCTURED_REPLY_MAGIC,
  writeNumber64,
} from "../protocol.ts";
import type { Wire } from "../wire.ts";
import type { StatusExtent } from "./export.ts";

const MAX_MESSAGE_BYTES = 1024;

export class Replies {
  readonly structured: boolean;
  readonly #wire: Wire;

  constructor(wire: Wire, structured: boolean) {
    this.#wire = wire;
    this.structured = structured;
  }

  /** A request without an answer of its own is done. */
  async done(cookie: Buffer): Promise<void> {
    if (this.structured) await this.#chunk(cookie, CHUNK_DONE, Chunk.NONE);
    else await this.#simple(cookie, 0);
  }

  async failed(cookie: Buffer, errno: number, message: string): Promise<void> {
    if (!this.structured) return await this.#simple(cookie, errno);
    const text = Buffer.from(message).subarray(0, MAX_MESSAGE_BYTES);
    const payload = Buffer.alloc(6);
    payload.writeUInt32BE(errno, 0);
    payload.writeUInt16BE(text.length, 4);
    await this.#chunk(cookie, CHUNK_DONE, Chunk.ERROR, payload, text);
  }

  /** A simple reply with all that was read. */
  async content(cookie: Buffer, data: Buffer): Promise<void> {
    await this.#simple(cookie, 0, data);
  }

  /** Data, as a part of a structured reply. */
  async data(cookie: Buffer, offset: number, data: Buffer, last: boolean): Promise<void> {
    // Header and offset are one piece: each costs the socket as much as a small read does the disk.
    const header = chunkHeader(cookie, last ? CHUNK_DONE : 0, Chunk.OFFSET_DATA, 8 + data.length, 8);
    writeNumber64(header, offset, CHUNK_HEADER_BYTES);
    await this.#wire.send(header, data);
  }

  /** Zeros, as a part of a structured reply. */
  async hole(cookie: Buffer, offset: number, length: number, last: boolean): Promise<void> {
    const payload = Buffer.alloc(12);
    writeNumber64(payload, offset, 0);
    payload.writeUInt32BE(length, 8);
    await this.#chunk(cookie, last ? CHUNK_DONE : 0, Chunk.OFFSET_HOLE, payload);
  }

  async status(cookie: Buffer, context: number, extents: readonly StatusExtent[], last: boolean): Promise<void> {
    const payload = Buffer.alloc(4 + 8 * extents.length);
    payload.writeUInt32BE(context, 0);
    for (const [index, { length, flags }] of extents.entries()) {
      payload.writeUInt32BE(length, 4 + 8 * index);
      payload.writeUInt32BE(flags, 8 + 8 * index);
    }
    await this.#chunk(cookie, last ? CHUNK_DONE : 0, Chunk.BLOCK_STATUS, payload);
  }

  async #simple(cookie: Buffer, errno: number, ...data: Buffer[]): Promise<void> {
    const header = Buffer.alloc(SIMPLE_REPLY_BYTES);
    header.writeUInt32BE(SIMPLE_REPLY_MAGIC, 0);
    header.writeUInt32BE(errno, 4);
    cookie.copy(header, 8);
    await this.#wire.send(header, ...data);
  }

  async #chunk(cookie: Buffer, flags: number, type: number, ...payload: Buffer[]): Promise<void> {
    await this.#wire.send(chunkHeader(cookie, flags, type, totalBytes(payload)), ...payload);
  }
}

/** With room for what else is to be in the same piece. */
function chunkHeader(cookie: Buffer, flags: number, type: number, length: number, room = 0): Buffer {
  const header = Buffer.allocUnsafe(CHUNK_HEADER_BYTES + room);
  header.writeUInt32BE(STRUCTURED_REPLY_MAGIC, 0);
  header.writeUInt16BE(flags, 4);
  header.writeUInt16BE(type, 6);
  cookie.copy(header, 8);
  header.writeUInt32BE(length, 16);
  return header;
}
