/** The client's side of a fixed newstyle negotiation: from a fresh connection to an export. */

import type { Duplex } from "node:stream";
import { StorageError } from "../../errors.ts";
import { totalBytes } from "../../file/pieces.ts";
import {
  BASE_ALLOCATION,
  Can,
  GREETING_MAGIC,
  Handshake,
  Info,
  MAX_PAYLOAD_BYTES,
  OPTION_HEADER_BYTES,
  OPTION_MAGIC,
  OPTION_REPLY_HEADER_BYTES,
  OPTION_REPLY_MAGIC,
  Option,
  OptionReply,
  readNumber64,
} from "../protocol.ts";
import { Wire } from "../wire.ts";

/** A server that answers one option with more, or with longer answers, is none. */
const MAX_REPLIES = 256;
const MAX_REPLY_BYTES = 64 << 10;
const ERROR_BIT = 0x8000_0000;

/** What the server offers. */
export interface RemoteExport {
  wire: Wire;
  sizeBytes: number;
  /** {@link Can}. */
  flags: number;
  structuredReplies: boolean;
  /** The number of base:allocation on this connection, where the server has it. */
  allocation?: number;
  /** Requests are of multiples of this. */
  minimumBytes: number;
  /** Reads and writes are not longer than this. */
  maximumBytes: number;
}

interface Reply {
  type: number;
  data: Buffer;
}

/** Rejects with a {@link StorageError} of code `STORAGE_OPEN` that says what the server refuses. */
export async function negotiate(
  wire: Wire,
  exportName: string,
  secure?: (stream: Duplex) => Promise<Duplex>,
): Promise<RemoteExport> {
  const { noZeroes } = await greet(wire);
  let secured = wire;
  if (secure !== undefined) {
    accept(await ask(wire, Option.STARTTLS), "TLS");
    if (!wire.release()) throw refused("the server sent data before TLS began");
    secured = new Wire(await secure(wire.stream));
  }
  const structured = await ask(secured, Option.STRUCTURED_REPLY);
  if (structured.at(-1)!.type === OptionReply.ERR_TLS_REQD)
    throw refused("the server wants TLS: its address is nbds://");
  const structuredReplies = structured.at(-1)!.type === OptionReply.ACK;
  const allocation = structuredReplies ? await chooseAllocation(secured, exportName) : undefined;
  return {
    ...(await go(secured, exportName, noZeroes)),
    wire: secured,
    structuredReplies,
    ...(allocation !== undefined && { allocation }),
  };
}

async function greet(wire: Wire): Promise<{ noZeroes: boolean }> {
  const greeting = await wire.take(18);
  if (greeting.readBigUInt64BE(0) !== GREETING_MAGIC) throw refused("what answers there does not speak NBD");
  const flags = greeting.readUInt16BE(16);
  if (greeting.readBigUInt64BE(8) !== OPTION_MAGIC || (flags & Handshake.FIXED_NEWSTYLE) === 0) {
    throw refused("the server is too old: it has no fixed newstyle negotiation");
  }
  const answer = Buffer.alloc(4);
  answer.writeUInt32BE(flags & (Handshake.FIXED_NEWSTYLE | Handshake.NO_ZEROES));
  await wire.send(answer);
  return { noZeroes: (flags & Handshake.NO_ZEROES) !== 0 };
}

async function chooseAllocation(wire: Wire, exportName: string): Promise<number | undefined> {
  const one = Buffer.alloc(4);
  one.writeUInt32BE(1);
  const replies = await ask(wire, Option.SET_META_CONTEXT, lengthAnd(exportName), one, lengthAnd(BASE_ALLOCATION));
  if (replies.at(-1)!.type !== OptionReply.ACK) return undefined;
  const chosen = replies.find(({ data }) => data.toString("utf8", 4) === BASE_ALLOCATION && data.length > 4);
  return chosen?.data.readUInt32BE();
}

type Offered = Pick<RemoteExport, "sizeBytes" | "flags" | "minimumBytes" | "maximumBytes">;

async function go(wire: Wire, exportName: string, noZeroes: boolean): Promise<Offered> {
  const wanted = Buffer.alloc(4);
  wanted.writeUInt16BE(1, 0);
  wanted.writeUInt16BE(Info.BLOCK_SIZE, 2);
  const replies = await ask(wire, Option.GO, lengthAnd(exportName), wanted);
  if (replies.at(-1)!.type === OptionReply.ERR_UNSUP) return await exportByName(wire, exportName, noZeroes);
  accept(replies, `export "${exportName}"`);
  const offered = { sizeBytes: -1, flags: 0, minimumBytes: 1, maximumBytes: MAX_PAYLOAD_BYTES };
  for (const { type, data } of replies) {
    if (type !== OptionReply.INFO || data.length < 2) continue;
    const info = data.readUInt16BE();
    if (info === Info.EXPORT && data.length === 12) {
      offered.sizeBytes = readNumber64(data, 2);
      offered.flags = data.readUInt16BE(10);
    } else if (info === Info.BLOCK_SIZE && data.length === 14) {
      offered.minimumBytes = data.readUInt32BE(2);
      offered.maximumBytes = Math.min(data.readUInt32BE(10), MAX_PAYLOAD_BYTES);
    }
  }
  return checked(offered);
}

/** NBD_OPT_EXPORT_NAME, for servers that know nothing newer: it answers by closing when it refuses. */
async function exportByName(wire: Wire, exportName: string, noZeroes: boolean): Promise<Offered> {
  await sendOption(wire, Option.EXPORT_NAME, [Buffer.from(exportName)]);
  const answer = await wire.take(noZeroes ? 10 : 10 + 124);
  return checked({
    sizeBytes: readNumber64(answer, 0),
    flags: answer.readUInt16BE(8),
    minimumBytes: 1,
    maximumBytes: MAX_PAYLOAD_BYTES,
  });
}

function checked(offered: Offered): Offered {
  const { sizeBytes, minimumBytes, maximumBytes } = offered;
  if (!(sizeBytes >= 0 && sizeBytes <= Number.MAX_SAFE_INTEGER)) throw refused(`the export has ${sizeBytes} bytes`);
  const power = minimumBytes > 0 && (minimumBytes & (minimumBytes - 1)) === 0;
  if (!power || minimumBytes > 65536 || maximumBytes < minimumBytes) {
    throw refused(`block sizes of ${minimumBytes} to ${maximumBytes} bytes`);
  }
  // Flags without the flag that says so mean nothing.
  const flags = (offered.flags & Can.HAS_FLAGS) === 0 ? 0 : offered.flags;
  return { ...offered, flags, maximumBytes: maximumBytes - (maximumBytes % minimumBytes) };
}

/** Sends an option; its replies up to the one that ends it. */
async function ask(wire: Wire, option: number, ...data: Buffer[]): Promise<Reply[]> {
  await sendOption(wire, option, data);
  const replies: Reply[] = [];
  while (replies.length < MAX_REPLIES) {
    const header = await wire.take(OPTION_REPLY_HEADER_BYTES);
    const type = header.readUInt32BE(12);
    const length = header.readUInt32BE(16);
    const mine = header.readBigUInt64BE() === OPTION_REPLY_MAGIC && header.readUInt32BE(8) === option;
    if (!mine || length > MAX_REPLY_BYTES) throw refused("the server does not follow the protocol");
    replies.push({ type, data: await wire.take(length) });
    if (type === OptionReply.ACK || type >= ERROR_BIT) return replies;
  }
  throw refused("the server's answer has no end");
}

async function sendOption(wire: Wire, option: number, data: Buffer[]): Promise<void> {
  const header = Buffer.alloc(OPTION_HEADER_BYTES);
  header.writeBigUInt64BE(OPTION_MAGIC, 0);
  header.writeUInt32BE(option, 8);
  header.writeUInt32BE(totalBytes(data), 12);
  await wire.send(header, ...data);
}

/** Throws unless the option's last reply grants it. */
function accept(replies: Reply[], what: string): void {
  const { type, data } = replies.at(-1)!;
  if (type === OptionReply.ACK) return;
  const name = Object.entries(OptionReply).find(([, value]) => value === type)?.[0] ?? type.toString(16);
  const said = data.toString("utf8", 0, 512).replace(/[^ -~]/g, "?");
  throw refused(`the server refuses ${what}: ${said === "" ? name : `${said} (${name})`}`);
}

function lengthAnd(text: string): Buffer {
  const bytes = Buffer.from(text);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

function refused(message: string): StorageError {
  return new StorageError("STORAGE_OPEN", message);
}
