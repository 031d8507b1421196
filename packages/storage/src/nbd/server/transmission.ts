/** The server's side of the transmission phase: requests are taken as they come and answered as they end. */

import { StorageError } from "../../errors.ts";
import {
  Command,
  CommandFlag,
  MAX_PAYLOAD_BYTES,
  NbdErrno,
  REQUEST_BYTES,
  REQUEST_MAGIC,
  readNumber64,
} from "../protocol.ts";
import { type Wire, WireEnded } from "../wire.ts";
import { Budget } from "./budget.ts";
import { errnoOf } from "./errno.ts";
import type { MetaContext, NbdExport } from "./export.ts";
import type { Agreement } from "./negotiation.ts";
import { ReadBuffers } from "./read-buffers.ts";
import { Replies } from "./replies.ts";
import { sparseRead } from "./sparse-read.ts";

/** Per connection. The bytes are those of reads and writes, and hold two of the largest. */
const MAX_REQUESTS = 64;
const MAX_BYTES = 2 * MAX_PAYLOAD_BYTES;
/** Extents in one answer about a block's status. */
const MAX_EXTENTS = 4096;
/** NBD_CMD_CACHE goes through the range in steps of this. */
const CACHE_STEP_BYTES = 1 << 20;

interface Request {
  flags: number;
  type: number;
  cookie: Buffer;
  offset: number;
  length: number;
}

/** The command is refused with this error of the protocol. */
class Refusal extends StorageError {
  readonly errno: number;

  constructor(errno: number, message: string) {
    super("STORAGE_IO", message);
    this.errno = errno;
  }
}

/** Which flags a command may have. */
const ALLOWED_FLAGS: ReadonlyMap<number, number> = new Map([
  [Command.READ, CommandFlag.DF | CommandFlag.FUA],
  [Command.WRITE, CommandFlag.FUA],
  [Command.FLUSH, CommandFlag.FUA],
  [Command.TRIM, CommandFlag.FUA],
  [Command.CACHE, CommandFlag.FUA],
  [Command.WRITE_ZEROES, CommandFlag.FUA | CommandFlag.NO_HOLE | CommandFlag.FAST_ZERO],
  [Command.BLOCK_STATUS, CommandFlag.FUA | CommandFlag.REQ_ONE],
]);

/** Serves until the client disconnects; what it had begun is finished first. Rejects when it breaks the protocol. */
export async function transmit(agreement: Agreement): Promise<void> {
  await new Transmission(agreement).run();
}

class Transmission {
  readonly #wire: Wire;
  readonly #offered: NbdExport;
  readonly #contexts: ReadonlyMap<number, MetaContext>;
  readonly #replies: Replies;
  readonly #buffers = new ReadBuffers();
  readonly #budget = new Budget(MAX_REQUESTS, MAX_BYTES);

  constructor({ wire, offered, structuredReplies, contexts }: Agreement) {
    this.#wire = wire;
    this.#offered = offered;
    this.#contexts = contexts;
    this.#replies = new Replies(wire, structuredReplies);
  }

  async run(): Promise<void> {
    try {
      while (await this.#next());
    } finally {
      await this.#budget.idle();
    }
  }

  /** Takes one request; false when it was the last. */
  async #next(): Promise<boolean> {
    const header = await this.#wire.take(REQUEST_BYTES);
    if (header.readUInt32BE() !== REQUEST_MAGIC)
      throw new StorageError("STORAGE_IO", "no request where one should begin");
    const request: Request = {
      flags: header.readUInt16BE(4),
      type: header.readUInt16BE(6),
      cookie: Buffer.from(header.subarray(8, 16)),
      offset: readNumber64(header, 16),
      length: header.readUInt32BE(24),
    };
    const { type, length } = request;
    if (type === Command.DISC) return false;
    if (type === Command.WRITE && length > MAX_PAYLOAD_BYTES) {
      throw new StorageError("STORAGE_IO", `a write of ${length} bytes`);
    }
    const bytes = type === Command.WRITE || type === Command.READ ? Math.min(length, MAX_PAYLOAD_BYTES) : 0;
    await this.#budget.take(bytes);
    try {
      const data = type === Command.WRITE ? await this.#wire.take(length) : undefined;
      void this.#serve(request, data).finally(() => this.#budget.give(bytes));
    } catch (error) {
      this.#budget.give(bytes);
      throw error;
    }
    return true;
  }

  /** Serves one request and never rejects. */
  async #serve(request: Request, data: Buffer | undefined): Promise<void> {
    try {
      this.#check(request);
      await this.#perform(request, data);
    } catch (error) {
      // With the connection gone there is nobody to tell.
      if (error instanceof WireEnded) return;
      const errno = error instanceof Refusal ? error.errno : errnoOf(error);
      const message = error instanceof Error ? error.message : String(error);
      await this.#replies.failed(request.cookie, errno, message).catch(() => {});
    }
  }

  #check({ type, flags, offset, length }: Request): void {
    const allowed = ALLOWED_FLAGS.get(type);
    if (allowed === undefined) throw new Refusal(NbdErrno.EINVAL, `command ${type} is not known here`);
    if ((flags & ~allowed) !== 0) throw new Refusal(NbdErrno.EINVAL, `flags ${flags} of command ${type}`);
    if (type === Command.FLUSH) return;
    const writes = type === Command.WRITE || type === Command.WRITE_ZEROES || type === Command.TRIM;
    if (writes && this.#offered.readOnly) throw new Refusal(NbdErrno.EPERM, "the export is read-only");
    const { sizeBytes } = this.#offered.disk;
    if (offset > sizeBytes || length > sizeBytes - offset) {
      const errno = type === Command.WRITE || type === Command.WRITE_ZEROES ? NbdErrno.ENOSPC : NbdErrno.EINVAL;
      throw new Refusal(errno, `${length} bytes at ${offset}: the export has ${sizeBytes}`);
    }
    const block = this.#offered.minimumBytes ?? 1;
    if (offset % block !== 0 || length % block !== 0) {
      throw new Refusal(NbdErrno.EINVAL, `${length} bytes at ${offset}: ${block} is the least`);
    }
    if (type === Command.READ && length > MAX_PAYLOAD_BYTES) {
      throw new Refusal(NbdErrno.EINVAL, `a read of ${length} bytes; ${MAX_PAYLOAD_BYTES} is the most`);
    }
  }

  async #perform(request: Request, data: Buffer | undefined): Promise<void> {
    const { type, flags, cookie, offset, length } = request;
    const { disk } = this.#offered;
    switch (type) {
      case Command.READ:
        return await this.#read(request);
      case Command.BLOCK_STATUS:
        return await this.#blockStatus(request);
      case Command.WRITE:
        await disk.write(offset, [data!]);
        break;
      case Command.TRIM:
        if (length > 0) await disk.discard(offset, length);
        break;
      case Command.WRITE_ZEROES:
        await this.#zero(flags, offset, length);
        break;
      case Command.CACHE:
        await this.#cache(offset, length);
        break;
    }
    const lasting = type === Command.FLUSH || (flags & CommandFlag.FUA) !== 0;
    if (lasting && !this.#offered.readOnly) await disk.flush();
    await this.#replies.done(cookie);
  }

  async #zero(flags: number, offset: number, length: number): Promise<void> {
    const mayUnmap = (flags & CommandFlag.NO_HOLE) === 0;
    const onlyFast = (flags & CommandFlag.FAST_ZERO) !== 0;
    if (length > 0) await this.#offered.disk.writeZeroes(offset, length, mayUnmap, onlyFast);
  }

  async #read({ flags, cookie, offset, length }: Request): Promise<void> {
    const { disk } = this.#offered;
    if (length === 0) return await this.#replies.done(cookie);
    if (this.#replies.structured && (flags & CommandFlag.DF) === 0) {
      return await sparseRead(disk, this.#replies, this.#buffers, { cookie, offset, length });
    }
    const data = Buffer.allocUnsafe(length);
    await disk.read(offset, [data]);
    if (this.#replies.structured) await this.#replies.data(cookie, offset, data, true);
    else await this.#replies.content(cookie, data);
  }

  async #blockStatus({ flags, cookie, offset, length }: Request): Promise<void> {
    if (this.#contexts.size === 0) throw new Refusal(NbdErrno.EINVAL, "no metadata context was chosen");
    if (length === 0) throw new Refusal(NbdErrno.EINVAL, "the status of no bytes");
    const most = (flags & CommandFlag.REQ_ONE) === 0 ? MAX_EXTENTS : 1;
    // All are asked first: a reply that has begun cannot become an error of the same shape.
    const answers = [];
    for (const [id, context] of this.#contexts)
      answers.push({ id, extents: await context.extents(offset, length, most) });
    for (const [index, { id, extents }] of answers.entries()) {
      await this.#replies.status(cookie, id, extents, index === answers.length - 1);
    }
  }

  /** Reads, so that the content is in memory when it is wanted; what was read is nobody's. */
  async #cache(offset: number, length: number): Promise<void> {
    const step = Buffer.allocUnsafe(Math.min(length, CACHE_STEP_BYTES));
    for (let done = 0; done < length; done += step.length) {
      await this.#offered.disk.read(offset + done, [step.subarray(0, Math.min(step.length, length - done))]);
    }
  }
}
