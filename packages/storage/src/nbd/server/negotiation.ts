/**
 * The server's side of a fixed newstyle negotiation ("Newstyle negotiation" of the specification): options are answered
 * until one of them begins the transmission.
 */

import { StorageError } from "../../errors.ts";
import { totalBytes } from "../../file/pieces.ts";
import {
  GREETING_MAGIC,
  Handshake,
  Info,
  OPTION_HEADER_BYTES,
  OPTION_MAGIC,
  OPTION_REPLY_HEADER_BYTES,
  OPTION_REPLY_MAGIC,
  Option,
  OptionReply,
  writeNumber64,
} from "../protocol.ts";
import { Wire } from "../wire.ts";
import { blockSizes, type MetaContext, type NbdExport, type Offer, transmissionFlags } from "./export.ts";
import { InvalidOption, parseContextQueries, parseGo } from "./options.ts";

/** Nobody needs more options than these, nor larger ones; who sends them is cut off. */
const MAX_OPTIONS = 64;
const MAX_OPTION_BYTES = 64 << 10;

/** What the peers agreed on. */
export interface Agreement {
  wire: Wire;
  offered: NbdExport;
  structuredReplies: boolean;
  /** Metadata contexts by their number on this connection. */
  contexts: ReadonlyMap<number, MetaContext>;
}

/** Negotiates; undefined when the client wanted no transmission. Rejects when it breaks the protocol's rules. */
export async function negotiate(wire: Wire, offer: Offer): Promise<Agreement | undefined> {
  return await new Negotiation(wire, offer).run();
}

class Negotiation {
  #wire: Wire;
  readonly #offer: Offer;
  #secured = false;
  #noZeroes = false;
  #structuredReplies = false;
  /** The contexts that were chosen, and the export that they are of. */
  #chosen: { name: string; contexts: Map<number, MetaContext> } | undefined;

  constructor(wire: Wire, offer: Offer) {
    this.#wire = wire;
    this.#offer = offer;
  }

  async run(): Promise<Agreement | undefined> {
    await this.#greet();
    for (let count = 0; count < MAX_OPTIONS; count++) {
      const header = await this.#wire.take(OPTION_HEADER_BYTES);
      if (header.readBigUInt64BE() !== OPTION_MAGIC) throw new InvalidOption("no option where one should begin");
      const option = header.readUInt32BE(8);
      const length = header.readUInt32BE(12);
      if (length > MAX_OPTION_BYTES) throw new InvalidOption(`option ${option} has ${length} bytes`);
      const data = await this.#wire.take(length);
      if (option === Option.EXPORT_NAME) return await this.#exportName(data);
      if (option === Option.ABORT) {
        await this.#reply(option, OptionReply.ACK);
        return undefined;
      }
      try {
        const agreement = await this.#answer(option, data);
        if (agreement !== undefined) return agreement;
      } catch (error) {
        if (!(error instanceof InvalidOption)) throw error;
        await this.#refuse(option, OptionReply.ERR_INVALID, error.message);
      }
    }
    throw new InvalidOption("too many options");
  }

  async #greet(): Promise<void> {
    const greeting = Buffer.alloc(18);
    greeting.writeBigUInt64BE(GREETING_MAGIC, 0);
    greeting.writeBigUInt64BE(OPTION_MAGIC, 8);
    greeting.writeUInt16BE(Handshake.FIXED_NEWSTYLE | Handshake.NO_ZEROES, 16);
    await this.#wire.send(greeting);
    const flags = (await this.#wire.take(4)).readUInt32BE();
    if ((flags & ~(Handshake.FIXED_NEWSTYLE | Handshake.NO_ZEROES)) !== 0) {
      throw new InvalidOption(`client flags ${flags.toString(16)}`);
    }
    this.#noZeroes = (flags & Handshake.NO_ZEROES) !== 0;
  }

  async #answer(option: number, data: Buffer): Promise<Agreement | undefined> {
    if (option === Option.STARTTLS) return await this.#startTls(data);
    if (this.#offer.secure !== undefined && !this.#secured) {
      await this.#refuse(option, OptionReply.ERR_TLS_REQD, "this server speaks TLS only");
      return undefined;
    }
    switch (option) {
      case Option.LIST:
        return await this.#list(data);
      case Option.INFO:
        await this.#info(option, data);
        return undefined;
      case Option.GO:
        return await this.#info(option, data);
      case Option.STRUCTURED_REPLY:
        if (data.length > 0) throw new InvalidOption("this option has no data");
        this.#structuredReplies = true;
        await this.#reply(option, OptionReply.ACK);
        return undefined;
      case Option.LIST_META_CONTEXT:
      case Option.SET_META_CONTEXT:
        await this.#metaContext(option, data);
        return undefined;
      default:
        await this.#refuse(option, OptionReply.ERR_UNSUP, `option ${option} is not known here`);
        return undefined;
    }
  }

  /** The oldest way in, which can only be refused by closing. */
  async #exportName(data: Buffer): Promise<Agreement> {
    const offered = this.#offer.exports.get(data.toString("utf8"));
    if (offered === undefined || (this.#offer.secure !== undefined && !this.#secured)) {
      throw new InvalidOption("no such export");
    }
    const answer = Buffer.alloc(this.#noZeroes ? 10 : 10 + 124);
    writeNumber64(answer, offered.disk.sizeBytes, 0);
    answer.writeUInt16BE(transmissionFlags(offered, this.#offer.severalClients), 8);
    await this.#wire.send(answer);
    return this.#agreement(data.toString("utf8"), offered);
  }

  async #startTls(data: Buffer): Promise<undefined> {
    if (data.length > 0) throw new InvalidOption("this option has no data");
    if (this.#offer.secure === undefined) {
      return await this.#refuse(Option.STARTTLS, OptionReply.ERR_POLICY, "this server has no TLS");
    }
    if (this.#secured) throw new InvalidOption("TLS has begun already");
    await this.#reply(Option.STARTTLS, OptionReply.ACK);
    // What came in the clear behind the option would be taken for the client's.
    if (!this.#wire.release()) throw new StorageError("STORAGE_IO", "data before TLS");
    this.#wire = new Wire(await this.#offer.secure(this.#wire.stream));
    this.#secured = true;
    this.#structuredReplies = false;
    this.#chosen = undefined;
  }

  async #list(data: Buffer): Promise<undefined> {
    if (data.length > 0) throw new InvalidOption("this option has no data");
    for (const [name, { description = "" }] of this.#offer.exports) {
      const bytes = Buffer.from(name);
      const length = Buffer.alloc(4);
      length.writeUInt32BE(bytes.length);
      await this.#reply(Option.LIST, OptionReply.SERVER, length, bytes, Buffer.from(description));
    }
    await this.#reply(Option.LIST, OptionReply.ACK);
  }

  async #info(option: number, data: Buffer): Promise<Agreement | undefined> {
    const { name, wanted } = parseGo(data);
    const offered = this.#offer.exports.get(name);
    if (offered === undefined) {
      return await this.#refuse(option, OptionReply.ERR_UNKNOWN, `there is no export "${name.slice(0, 256)}"`);
    }
    const exported = Buffer.alloc(12);
    exported.writeUInt16BE(Info.EXPORT, 0);
    writeNumber64(exported, offered.disk.sizeBytes, 2);
    exported.writeUInt16BE(transmissionFlags(offered, this.#offer.severalClients), 10);
    await this.#reply(option, OptionReply.INFO, exported);
    if (wanted.has(Info.NAME)) await this.#infoText(option, Info.NAME, name);
    if (wanted.has(Info.DESCRIPTION) && offered.description !== undefined) {
      await this.#infoText(option, Info.DESCRIPTION, offered.description);
    }
    const { minimum, preferred, maximum } = blockSizes(offered);
    const sizes = Buffer.alloc(14);
    sizes.writeUInt16BE(Info.BLOCK_SIZE, 0);
    sizes.writeUInt32BE(minimum, 2);
    sizes.writeUInt32BE(preferred, 6);
    sizes.writeUInt32BE(maximum, 10);
    await this.#reply(option, OptionReply.INFO, sizes);
    await this.#reply(option, OptionReply.ACK);
    return this.#agreement(name, offered);
  }

  async #infoText(option: number, type: number, text: string): Promise<void> {
    const bytes = Buffer.alloc(2);
    bytes.writeUInt16BE(type);
    await this.#reply(option, OptionReply.INFO, bytes, Buffer.from(text));
  }

  async #metaContext(option: number, data: Buffer): Promise<void> {
    const listing = option === Option.LIST_META_CONTEXT;
    if (!listing) this.#chosen = undefined;
    if (!this.#structuredReplies) throw new InvalidOption("structured replies first");
    const { name, queries } = parseContextQueries(data);
    const offered = this.#offer.exports.get(name);
    if (offered === undefined) {
      return await this.#refuse(option, OptionReply.ERR_UNKNOWN, `there is no export "${name.slice(0, 256)}"`);
    }
    const contexts = new Map<number, MetaContext>();
    for (const [index, context] of offered.contexts.entries()) {
      const all = listing && queries.length === 0;
      if (!all && !queries.some((query) => matches(context.name, query, listing))) continue;
      const id = Buffer.alloc(4);
      id.writeUInt32BE(listing ? 0 : index);
      await this.#reply(option, OptionReply.META_CONTEXT, id, Buffer.from(context.name));
      contexts.set(index, context);
    }
    if (!listing) this.#chosen = { name, contexts };
    await this.#reply(option, OptionReply.ACK);
  }

  #agreement(name: string, offered: NbdExport): Agreement {
    // Contexts that were chosen for another export are none.
    const contexts = this.#chosen?.name === name ? this.#chosen.contexts : new Map<number, MetaContext>();
    return { wire: this.#wire, offered, structuredReplies: this.#structuredReplies, contexts };
  }

  async #refuse(option: number, type: number, message: string): Promise<undefined> {
    await this.#reply(option, type, Buffer.from(message));
  }

  async #reply(option: number, type: number, ...data: Buffer[]): Promise<void> {
    const header = Buffer.alloc(OPTION_REPLY_HEADER_BYTES);
    header.writeBigUInt64BE(OPTION_REPLY_MAGIC, 0);
    header.writeUInt32BE(option, 8);
    header.writeUInt32BE(type, 12);
    header.writeUInt32BE(totalBytes(data), 16);
    await this.#wire.send(header, ...data);
  }
}

/** Whether a query means this context; a listing takes a namespace, or a part up to a colon, for all that is in it. */
function matches(name: string, query: string, listing: boolean): boolean {
  return query === name || (listing && query.endsWith(":") && name.startsWith(query));
}
