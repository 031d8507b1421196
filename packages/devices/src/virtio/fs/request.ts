/** One FUSE request: its header, its fixed part, and the names or data behind that; all of it bounded by its buffers. */

import { type Chain, part } from "../queue/index.ts";
import { Errno, Refusal } from "../shared-folder/refusal.ts";
import { Header, REPLY_BYTES } from "./layout.ts";

/** Two names of a file system, each as long as may be, or a link's target. */
const LONGEST_NAMES = 8192;

export class FuseRequest {
  readonly opcode: number;
  readonly node: number;
  readonly uid: number;
  readonly gid: number;
  readonly #unique: bigint;
  readonly #length: number;
  readonly #chain: Chain;

  /** Undefined when the chain holds no header. */
  static from(chain: Chain): FuseRequest | undefined {
    const header = new DataView(new ArrayBuffer(Header.BYTES));
    return chain.read(0, new Uint8Array(header.buffer)) < Header.BYTES ? undefined : new FuseRequest(chain, header);
  }

  private constructor(chain: Chain, header: DataView) {
    this.#chain = chain;
    this.#length = Math.min(header.getUint32(Header.LENGTH, true), chain.readableBytes);
    this.opcode = header.getUint32(Header.OPCODE, true);
    this.#unique = header.getBigUint64(Header.UNIQUE, true);
    this.node = Number(header.getBigUint64(Header.NODE, true));
    this.uid = header.getUint32(Header.UID, true);
    this.gid = header.getUint32(Header.GID, true);
  }

  /** The fixed part of its arguments. */
  fixed(length: number): DataView {
    return this.#bytes(0, length);
  }

  /** The NUL-terminated strings behind the fixed part, one character for each byte. */
  names(fixed: number, count: number): string[] {
    const available = Math.min(this.#length - Header.BYTES - fixed, LONGEST_NAMES);
    if (available < count) throw new Refusal(Errno.EINVAL);
    const text = Buffer.from(this.#bytes(fixed, available).buffer).toString("latin1");
    const names = text.split("\0");
    // Behind the last NUL there is nothing, or what pads the request.
    if (names.length <= count) throw new Refusal(Errno.EINVAL);
    return names.slice(0, count);
  }

  #bytes(at: number, length: number): DataView {
    if (Header.BYTES + at + length > this.#length) throw new Refusal(Errno.EINVAL);
    const view = new DataView(new ArrayBuffer(length));
    this.#chain.read(Header.BYTES + at, new Uint8Array(view.buffer));
    return view;
  }

  /** Data to write, behind the fixed part: where it lies. */
  data(fixed: number, length: number): Uint8Array[] {
    if (Header.BYTES + fixed + length > this.#length) throw new Refusal(Errno.EINVAL);
    return part(this.#chain.readable, Header.BYTES + fixed, length);
  }

  /** Where data that was read goes, and how much of it there is room for. */
  get roomBytes(): number {
    return Math.max(0, this.#chain.writableBytes - REPLY_BYTES);
  }

  room(length: number): Uint8Array[] {
    return part(this.#chain.writable, REPLY_BYTES, length);
  }

  /** Writes the answer's header and what is not in its place already; returns the answer's whole length. */
  answer(errno: number, body: Uint8Array = NOTHING, placedBytes = 0): number {
    const { writableBytes } = this.#chain;
    // Nobody wants an answer, as to a forget.
    if (writableBytes < REPLY_BYTES) return 0;
    const fits = body.length + placedBytes <= writableBytes - REPLY_BYTES;
    const length = REPLY_BYTES + (fits ? body.length + placedBytes : 0);
    const header = new DataView(new ArrayBuffer(REPLY_BYTES));
    header.setUint32(0, length, true);
    header.setInt32(4, fits ? -errno : -Errno.EINVAL, true);
    header.setBigUint64(8, this.#unique, true);
    this.#chain.write(0, new Uint8Array(header.buffer));
    if (fits && body.length > 0) this.#chain.write(REPLY_BYTES, body);
    return length;
  }
}

const NOTHING = new Uint8Array(0);
