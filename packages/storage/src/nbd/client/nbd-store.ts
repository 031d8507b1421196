/** A disk behind the NBD protocol. */

import { notFast, StorageError } from "../../errors.ts";
import { cutPieces, fillPieces, gatherInto, type Pieces, scatter, totalBytes } from "../../file/pieces.ts";
import type { Extent, Store } from "../../image.ts";
import { settled } from "../../settled.ts";
import { AllocationFlag, Can, Command, CommandFlag } from "../protocol.ts";
import { type NbdAddress, parseNbdUri } from "./address.ts";
import type { Request } from "./connection.ts";
import { Links } from "./links.ts";

/** Requests without data may be longer than those with, but some servers have one bound for all that is below 2^31. */
const LONGEST_RANGE = 1 << 30;
const ZEROS = new Uint8Array(1 << 20);

export interface NbdStoreOptions {
  readOnly?: boolean;
  /** For how long a lost server is looked for before requests fail. */
  reconnectMs?: number;
}

export class NbdStore implements Store {
  readonly name: string;
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  readonly #links: Links;
  /** The last write that had to read first: those go one behind the other. */
  #patching: Promise<void> = Promise.resolve();

  private constructor(name: string, links: Links, readOnly: boolean) {
    this.name = name;
    this.#links = links;
    this.sizeBytes = links.remote.sizeBytes;
    this.readOnly = readOnly;
  }

  /** Connects; rejects with a {@link StorageError} of code `STORAGE_OPEN`. */
  static async open(uri: string, options: NbdStoreOptions = {}): Promise<NbdStore> {
    const address: NbdAddress = parseNbdUri(uri);
    const { readOnly = false, reconnectMs = 30_000 } = options;
    let links: Links;
    try {
      links = await Links.open(address, reconnectMs);
    } catch (cause) {
      throw new StorageError("STORAGE_OPEN", `${uri} cannot be opened: ${(cause as Error).message}`, { cause });
    }
    if (!readOnly && (links.remote.flags & Can.READ_ONLY) !== 0) {
      links.close();
      throw new StorageError("STORAGE_OPEN", `${uri} is read-only: open it so`);
    }
    return new NbdStore(uri, links, readOnly);
  }

  async read(offset: number, pieces: Pieces): Promise<void> {
    const length = totalBytes(pieces);
    // What is behind the end reads as zeros.
    const there = Math.max(0, Math.min(length, this.sizeBytes - offset));
    if (there < length) fillPieces(cutPieces(pieces, there, length - there), 0);
    if (there === 0) return;
    const inside = there === length ? pieces : cutPieces(pieces, 0, there);
    const { from, to } = this.#aligned(offset, there);
    if (from === offset && to === offset + there) return await this.#transfer(Command.READ, offset, inside, there);
    const whole = new Uint8Array(to - from);
    await this.#transfer(Command.READ, from, [whole]);
    scatter(whole.subarray(offset - from, offset - from + there), inside);
  }

  async write(offset: number, pieces: Pieces): Promise<void> {
    const length = totalBytes(pieces);
    if (length > this.sizeBytes - offset) {
      throw new StorageError("STORAGE_IO", `${this.name} cannot grow: it has ${this.sizeBytes} bytes`);
    }
    if (length === 0) return;
    const { from, to } = this.#aligned(offset, length);
    if (from === offset && to === offset + length) return await this.#transfer(Command.WRITE, offset, pieces);
    await this.#patch(from, to, (whole) => gatherInto(whole, pieces, offset - from));
  }

  async flush(): Promise<void> {
    if (this.#can(Can.SEND_FLUSH)) await this.#request({ type: Command.FLUSH, offset: 0, length: 0 });
  }

  async discard(offset: number, length: number): Promise<void> {
    if (!this.#can(Can.SEND_TRIM)) return;
    // Only whole blocks can be.
    const block = this.#links.remote.minimumBytes;
    const from = Math.ceil(offset / block) * block;
    const to = Math.floor((offset + length) / block) * block;
    for (const [at, bytes] of ranges(from, to)) {
      await this.#request({ type: Command.TRIM, offset: at, length: bytes });
    }
  }

  async writeZeroes(offset: number, length: number, mayUnmap: boolean, onlyFast = false): Promise<void> {
    if (length === 0) return;
    if (onlyFast && !this.#can(Can.SEND_FAST_ZERO)) throw notFast(this.name);
    const { from, to } = this.#aligned(offset, length);
    if (this.#can(Can.SEND_WRITE_ZEROES) && from === offset && to === offset + length) {
      const flags = (mayUnmap ? 0 : CommandFlag.NO_HOLE) | (onlyFast ? CommandFlag.FAST_ZERO : 0);
      for (const [at, bytes] of ranges(from, to)) {
        await this.#request({ type: Command.WRITE_ZEROES, flags, offset: at, length: bytes });
      }
      return;
    }
    if (onlyFast) throw notFast(this.name);
    for (let done = 0; done < length; done += ZEROS.length) {
      await this.write(offset + done, [ZEROS.subarray(0, Math.min(ZEROS.length, length - done))]);
    }
  }

  async status(offset: number, length: number): Promise<Extent> {
    const unknown = { length, zero: false, data: true, present: true, depth: 0, offset, name: this.name };
    if (this.#links.remote.allocation === undefined) return unknown;
    const { from, to } = this.#aligned(offset, Math.min(length, LONGEST_RANGE));
    const flags = CommandFlag.REQ_ONE;
    const found = await this.#request({ type: Command.BLOCK_STATUS, flags, offset: from, length: to - from });
    const known = Math.min((found?.length ?? 0) + from - offset, length);
    // A server that tells less than one byte tells nothing.
    if (found === undefined || known < 1) return unknown;
    const data = (found.flags & AllocationFlag.HOLE) === 0;
    return { ...unknown, length: known, zero: (found.flags & AllocationFlag.ZERO) !== 0, data };
  }

  async resize(sizeBytes: number): Promise<void> {
    if (sizeBytes === this.sizeBytes) return;
    throw new StorageError("STORAGE_IO", `${this.name}: the size of an NBD export is its server's affair`);
  }

  async close(): Promise<void> {
    this.#links.close();
  }

  #can(flag: number): boolean {
    return (this.#links.remote.flags & flag) !== 0;
  }

  #aligned(offset: number, length: number): { from: number; to: number } {
    const block = this.#links.remote.minimumBytes;
    return {
      from: offset - (offset % block),
      to: Math.min(Math.ceil((offset + length) / block) * block, this.sizeBytes),
    };
  }

  /** Changes some bytes of whole blocks. */
  async #patch(from: number, to: number, change: (whole: Uint8Array) => void): Promise<void> {
    const patched = this.#patching.then(async () => {
      const whole = new Uint8Array(to - from);
      await this.#transfer(Command.READ, from, [whole]);
      change(whole);
      await this.#transfer(Command.WRITE, from, [whole]);
    });
    this.#patching = patched.catch(() => {});
    await patched;
  }

  /** One read or write, in as many requests as the server's longest makes of it, all under way at once. */
  async #transfer(type: number, offset: number, pieces: Pieces, length = totalBytes(pieces)): Promise<void> {
    const longest = this.#links.remote.maximumBytes;
    if (length <= longest) {
      await this.#request(
        type === Command.READ ? { type, offset, length, into: pieces } : { type, offset, length, data: pieces },
      );
      return;
    }
    const requests: Promise<unknown>[] = [];
    for (let done = 0; done < length; done += longest) {
      const some = cutPieces(pieces, done, longest);
      const memory = type === Command.READ ? { into: some } : { data: some };
      requests.push(this.#request({ type, offset: offset + done, length: totalBytes(some), ...memory }));
    }
    await settled(requests);
  }

  async #request(request: Request) {
    try {
      return await this.#links.request(request);
    } catch (cause) {
      throw new StorageError("STORAGE_IO", `${this.name}: ${(cause as Error).message}`, { cause });
    }
  }
}

/** A range in steps that every server takes. */
function* ranges(from: number, to: number): Generator<[offset: number, length: number]> {
  for (let at = from; at < to; at += LONGEST_RANGE) yield [at, Math.min(LONGEST_RANGE, to - at)];
}
