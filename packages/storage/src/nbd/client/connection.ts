/** One connection to an NBD server in its transmission phase: many requests under way, answered in any order. */

import { connect } from "node:net";
import { StorageError } from "../../errors.ts";
import {
  CHUNK_DONE,
  CHUNK_HEADER_BYTES,
  CHUNK_IS_ERROR,
  Chunk,
  Command,
  MAX_STRING_BYTES,
  REQUEST_BYTES,
  REQUEST_MAGIC,
  readNumber64,
  SIMPLE_REPLY_MAGIC,
  STRUCTURED_REPLY_MAGIC,
  writeNumber64,
} from "../protocol.ts";
import { clientTls } from "../tls.ts";
import { Wire } from "../wire.ts";
import type { NbdAddress } from "./address.ts";
import { negotiate, type RemoteExport } from "./negotiation.ts";
import { type BlockStatus, Pending, ProtocolBreach } from "./pending.ts";

/** Connecting and negotiating take no longer. */
const CONNECT_MS = 10_000;
/** How long a silent TCP connection is believed in before the kernel asks. */
const KEEP_ALIVE_MS = 15_000;
/** We ask for one extent; a server may tell more, but not without bound. */
const MAX_STATUS_BYTES = 4 + 8 * 4096;

/** The connection is gone, and with it the answer: the request may be sent again on another. */
export class ConnectionLost extends StorageError {
  constructor(cause: Error) {
    super("STORAGE_IO", cause.message, { cause });
  }
}

export interface Request {
  type: number;
  flags?: number;
  offset: number;
  length: number;
  /** What a write sends. */
  data?: readonly Uint8Array[];
  /** What a read fills. */
  into?: readonly Uint8Array[];
}

export class Connection {
  readonly remote: RemoteExport;
  readonly #pending = new Map<number, Pending>();
  #cookie = 0;
  #lost: ConnectionLost | undefined;

  private constructor(remote: RemoteExport) {
    this.remote = remote;
    // Later, so that who made it asks first: a server that was recorded answers before.
    queueMicrotask(() => void this.#listen());
  }

  /** Of a stream that is negotiated. */
  static over(remote: RemoteExport): Connection {
    return new Connection(remote);
  }

  /** Connects and negotiates; `signal` ends that, and does nothing afterwards. */
  static async open({ to, exportName, tls, tlsHostname }: NbdAddress, signal?: AbortSignal): Promise<Connection> {
    const secure = tls && (await clientTls(tls, tlsHostname ?? ("host" in to ? to.host : "localhost")));
    const options = { ...to, noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS };
    // TLS takes over a socket that nobody else reads.
    const wire = secure === undefined ? Wire.connect(options) : new Wire(connect(options));
    const end = (why?: Error) => wire.stream.destroy(why);
    const timer = setTimeout(() => end(new Error("no answer within ten seconds")), CONNECT_MS);
    const abandon = () => end();
    signal?.addEventListener("abort", abandon);
    try {
      return Connection.over(await negotiate(wire, exportName, secure));
    } catch (error) {
      end();
      throw error;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abandon);
    }
  }

  /** Requests that have been sent and not answered. */
  get underWay(): number {
    return this.#pending.size;
  }

  get lost(): boolean {
    return this.#lost !== undefined;
  }

  /** Rejects with {@link ConnectionLost} when no answer came, with another {@link StorageError} when it was a refusal. */
  request({ type, flags = 0, offset, length, data = [], into = [] }: Request): Promise<BlockStatus | undefined> {
    if (this.#lost !== undefined) return Promise.reject(this.#lost);
    const header = Buffer.allocUnsafe(REQUEST_BYTES);
    const cookie = this.#cookie;
    this.#cookie += 1;
    header.writeUInt32BE(REQUEST_MAGIC, 0);
    header.writeUInt16BE(flags, 4);
    header.writeUInt16BE(type, 6);
    writeNumber64(header, cookie, 8);
    writeNumber64(header, offset, 16);
    header.writeUInt32BE(length, 24);
    const pending = new Pending(offset, length, into);
    this.#pending.set(cookie, pending);
    const ended = this.remote.wire.post([header, ...data]);
    if (ended !== undefined) this.#lose(ended);
    return pending.answered;
  }

  /** Says goodbye; what is under way is lost. */
  close(): void {
    const header = Buffer.alloc(REQUEST_BYTES);
    header.writeUInt32BE(REQUEST_MAGIC, 0);
    header.writeUInt16BE(Command.DISC, 6);
    const { wire } = this.remote;
    wire.send(header).then(
      () => wire.stream.end(() => wire.destroy()),
      () => {},
    );
    this.#abandon(new Error("the disk is closed"));
  }

  async #listen(): Promise<void> {
    try {
      while (!this.lost) await this.#reply();
    } catch (error) {
      this.#lose(error as Error);
    }
  }

  #lose(error: Error): void {
    // Nothing may be written into memory whose owner no longer waits.
    this.remote.wire.destroy();
    this.#abandon(error);
  }

  #abandon(error: Error): void {
    this.#lost ??= new ConnectionLost(error);
    for (const pending of this.#pending.values()) pending.abandon(this.#lost);
    this.#pending.clear();
  }

  async #reply(): Promise<void> {
    const { wire, structuredReplies } = this.remote;
    const magic = (wire.takeNow(4) ?? (await wire.take(4))).readUInt32BE();
    if (magic === SIMPLE_REPLY_MAGIC) return await this.#simpleReply();
    if (magic === STRUCTURED_REPLY_MAGIC && structuredReplies) return await this.#chunk();
    throw new ProtocolBreach("no reply where one should begin");
  }

  async #simpleReply(): Promise<void> {
    const { wire } = this.remote;
    const rest = wire.takeNow(12) ?? (await wire.take(12));
    const errno = rest.readUInt32BE(0);
    const cookie = readNumber64(rest, 4);
    const pending = this.#find(cookie);
    if (errno !== 0) pending.fail(errno, "");
    else if (pending.reads) {
      if (this.remote.structuredReplies) throw new ProtocolBreach("a simple reply to a read");
      await this.#receive(pending, pending.offset, pending.length);
    }
    this.#finish(cookie, pending);
  }

  async #chunk(): Promise<void> {
    const { wire } = this.remote;
    const rest = wire.takeNow(CHUNK_HEADER_BYTES - 4) ?? (await wire.take(CHUNK_HEADER_BYTES - 4));
    const flags = rest.readUInt16BE(0);
    const type = rest.readUInt16BE(2);
    const cookie = readNumber64(rest, 4);
    const length = rest.readUInt32BE(12);
    const pending = this.#find(cookie);
    if ((type & CHUNK_IS_ERROR) !== 0) await this.#error(pending, length);
    else if (type === Chunk.OFFSET_DATA && length > 8) {
      const at = wire.takeNow(8) ?? (await wire.take(8));
      await this.#receive(pending, readNumber64(at, 0), length - 8);
    } else if (type === Chunk.OFFSET_HOLE && length === 12) {
      const hole = await wire.take(12);
      for (const part of pending.receive(readNumber64(hole, 0), hole.readUInt32BE(8))) part.fill(0);
    } else if (type === Chunk.BLOCK_STATUS) await this.#status(pending, length);
    else if (type !== Chunk.NONE || length !== 0) throw new ProtocolBreach(`a chunk of type ${type}, ${length} bytes`);
    if ((flags & CHUNK_DONE) !== 0) this.#finish(cookie, pending);
  }

  async #error(pending: Pending, length: number): Promise<void> {
    if (length < 6 || length > 6 + 8 + MAX_STRING_BYTES) throw new ProtocolBreach(`an error of ${length} bytes`);
    const error = await this.remote.wire.take(length);
    const errno = error.readUInt32BE(0);
    if (errno === 0) throw new ProtocolBreach("an error that is none");
    pending.fail(errno, error.toString("utf8", 6, Math.min(6 + error.readUInt16BE(4), length)));
  }

  async #status(pending: Pending, length: number): Promise<void> {
    if (length < 12 || length % 8 !== 4 || length > MAX_STATUS_BYTES)
      throw new ProtocolBreach(`a status of ${length} bytes`);
    const status = await this.remote.wire.take(length);
    if (status.readUInt32BE(0) !== this.remote.allocation) throw new ProtocolBreach("a context that was not chosen");
    pending.describe({ length: status.readUInt32BE(4), flags: status.readUInt32BE(8) });
  }

  async #receive(pending: Pending, offset: number, length: number): Promise<void> {
    const { wire } = this.remote;
    for (const part of pending.receive(offset, length)) {
      const done = wire.fillNow(part);
      if (done < part.length) await wire.fill(part.subarray(done));
    }
  }

  #find(cookie: number): Pending {
    const pending = this.#pending.get(cookie);
    if (pending === undefined) throw new ProtocolBreach("an answer to nothing");
    return pending;
  }

  #finish(cookie: number, pending: Pending): void {
    pending.finish();
    this.#pending.delete(cookie);
  }
}
