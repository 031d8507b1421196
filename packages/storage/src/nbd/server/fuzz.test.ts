/** The server against clients that send anything, in pieces of any size. */

import assert from "node:assert/strict";
import { duplexPair } from "node:stream";
import { test } from "node:test";
import { randomBytes, randomNumbers } from "../../../testing/bytes.ts";
import { MemoryStore } from "../../../testing/memory-store.ts";
import { clientFlags, option, request, text, u16s, u32 } from "../../../testing/nbd-messages.ts";
import { StorageError } from "../../errors.ts";
import { BASE_ALLOCATION, Command, CommandFlag, Info, Option } from "../protocol.ts";
import { Wire } from "../wire.ts";
import { baseAllocation } from "./contexts.ts";
import { negotiate } from "./negotiation.ts";
import { transmit } from "./transmission.ts";

const SIZE = 256 << 10;
const rounds = process.env.LODGE_LONG === "1" ? 200_000 : 6_000;

/** All of a client's life: every option, every command. */
const negotiation = [
  clientFlags(),
  option(Option.LIST),
  option(Option.STARTTLS),
  option(Option.INFO, text(""), u16s(3, Info.NAME, Info.DESCRIPTION, Info.BLOCK_SIZE)),
  option(Option.INFO, text("none"), u16s(0)),
  option(Option.STRUCTURED_REPLY),
  option(Option.LIST_META_CONTEXT, text(""), u32(0)),
  option(Option.LIST_META_CONTEXT, text(""), u32(1), text("base:")),
  option(Option.SET_META_CONTEXT, text(""), u32(2), text("other:thing"), text(BASE_ALLOCATION)),
  option(99, Buffer.from("future")),
  option(Option.GO, text(""), u16s(1, Info.BLOCK_SIZE)),
];
const requests = [
  request(Command.READ, 1, 0, 65536),
  request(Command.READ, 2, 100, 5, undefined, CommandFlag.DF),
  request(Command.WRITE, 3, 4096, 300, randomBytes(300, 5)),
  request(Command.WRITE_ZEROES, 4, 65536, 8192, undefined, CommandFlag.FUA),
  request(Command.TRIM, 5, 131072, 65536),
  request(Command.BLOCK_STATUS, 6, 0, SIZE),
  request(Command.BLOCK_STATUS, 7, 0, SIZE, undefined, CommandFlag.REQ_ONE),
  request(Command.CACHE, 8, 0, SIZE),
  request(Command.FLUSH, 9, 0, 0),
  request(Command.READ, 10, SIZE, 1),
  request(Command.WRITE, 11, SIZE - 1, 2, Buffer.alloc(2)),
  request(77, 12, 0, 0),
  request(Command.READ, 13, 0, 8, undefined, CommandFlag.REQ_ONE),
  request(Command.READ, 14, 2 ** 53 + 4096, 8),
  request(Command.DISC, 15, 0, 0),
];

interface Outcome {
  sent: Buffer;
  store: MemoryStore;
  error: unknown;
}

/** What the server makes of these bytes, in these pieces, and then the end. */
async function serve(pieces: Iterable<Uint8Array>, contents = 3): Promise<Outcome> {
  const store = new MemoryStore(SIZE);
  if (contents > 0) await store.write(8192, [randomBytes(50_000, contents)]);
  const offered = { disk: store, readOnly: false, description: "fuzzed", contexts: [baseAllocation(store)] };
  const exports = new Map([["", offered]]);
  const [client, server] = duplexPair();
  const sent: Buffer[] = [];
  client.on("data", (chunk) => sent.push(chunk)).on("error", () => {});
  let error: unknown;
  const served = (async () => {
    const agreement = await negotiate(new Wire(server), { exports, severalClients: true });
    if (agreement !== undefined) await transmit(agreement);
  })().catch((cause) => {
    error = cause;
  });
  for (const piece of pieces) client.write(piece);
  client.end();
  await served;
  // What was sent last is still on its way.
  await new Promise<void>((resolve) => server.end(resolve));
  if (!client.readableEnded) await new Promise((resolve) => client.once("end", resolve).resume());
  return { sent: Buffer.concat(sent), store, error };
}

/** Answers may come in any order; those to one request keep theirs. */
function byCookie(sent: Buffer, begin: number): Map<bigint, Buffer[]> {
  const answers = new Map<bigint, Buffer[]>();
  for (let at = begin; at < sent.length; ) {
    const end = at + 20 + sent.readUInt32BE(at + 16);
    const cookie = sent.readBigUInt64BE(at + 8);
    answers.set(cookie, [...(answers.get(cookie) ?? []), sent.subarray(at, end)]);
    at = end;
  }
  return answers;
}

function bytewise(bytes: Buffer): Uint8Array[] {
  return Array.from(bytes, (byte) => Uint8Array.of(byte));
}

test("bytes that come one by one mean what they mean together", async () => {
  const stream = Buffer.concat([...negotiation, ...requests]);
  const whole = await serve([stream]);
  assert.equal(whole.error, undefined);
  const negotiated = (await serve(negotiation)).sent;
  assert.deepEqual(whole.sent.subarray(0, negotiated.length), negotiated);
  const answers = byCookie(whole.sent, negotiated.length);
  assert.equal(answers.size, requests.length - 1, "one answer to each request but the last");
  for (const pieces of [bytewise(stream), [...negotiation, ...requests]]) {
    const split = await serve(pieces);
    assert.equal(split.error, undefined);
    assert.ok(split.sent.subarray(0, negotiated.length).equals(negotiated));
    // Reads that overtake writes are told apart by the content that all orders agree on.
    const others = byCookie(split.sent, negotiated.length);
    for (const cookie of [2n, 3n, 4n, 5n, 8n, 9n, 10n, 11n, 12n, 13n, 14n]) {
      assert.deepEqual(others.get(cookie), answers.get(cookie), `request ${cookie}`);
    }
    assert.ok(split.store.bytes.equals(whole.store.bytes));
  }
});

test("every cut through the negotiation gives the same", async () => {
  const stream = Buffer.concat(negotiation);
  const whole = await serve([stream]);
  for (let cut = 1; cut < stream.length; cut++) {
    const split = await serve([stream.subarray(0, cut), stream.subarray(cut)]);
    assert.ok(split.sent.equals(whole.sent), `cut at ${cut}`);
  }
});

test("a stream that ends anywhere ends the session", async () => {
  const stream = Buffer.concat([...negotiation, ...requests]);
  for (let end = 0; end < stream.length - 1; end += end < 1000 ? 1 : 7) {
    const { error } = await serve([stream.subarray(0, end)]);
    assert.ok(error instanceof StorageError, `ended at ${end}`);
  }
});

/** One of the ways in which streams go wrong. */
function mutate(stream: Buffer, random: (below: number) => number): Buffer {
  const bytes = Buffer.from(stream);
  const from = random(bytes.length);
  switch (random(6)) {
    case 0:
      bytes[from] = random(256);
      return bytes;
    case 1:
      bytes.writeUInt32BE(
        [0, 1, 0x7fffffff, 0xffffffff, 0x80000000, 4096][random(6)]!,
        Math.min(from, bytes.length - 4),
      );
      return bytes;
    case 2:
      return Buffer.concat([bytes.subarray(0, from), bytes.subarray(Math.min(bytes.length, from + random(40)))]);
    case 3:
      return Buffer.concat([bytes.subarray(0, from), randomBytes(random(64), from), bytes.subarray(from)]);
    case 4:
      for (let count = random(20); count > 0; count--) bytes[random(bytes.length)] = random(256);
      return bytes;
    default:
      return Buffer.concat([bytes.subarray(0, from), bytes]);
  }
}

test(`${rounds} streams that are wrong somewhere end in nothing but errors, and grow no memory`, async () => {
  const random = randomNumbers(20261126);
  let before = 0;
  for (let round = 0; round < rounds; round++) {
    // Mostly the negotiation is right, as nobody gets further without it.
    const good = random(4) > 0 ? Buffer.concat(negotiation) : Buffer.alloc(0);
    const rest = good.length > 0 ? requests : [...negotiation, ...requests];
    const picked = Array.from({ length: 1 + random(6) }, () => rest[random(rest.length)]!);
    let stream: Buffer = Buffer.concat(good.length > 0 ? picked : rest);
    for (let times = 1 + random(3); times > 0; times--) stream = mutate(stream, random);
    const whole = Buffer.concat([good, stream]);
    const cut = random(whole.length);
    const { error } = await serve([whole.subarray(0, cut), whole.subarray(cut)], 0);
    assert.ok(error === undefined || error instanceof StorageError, `round ${round}: ${error}`);
    if (round === Math.floor(rounds / 10)) before = process.memoryUsage().rss;
  }
  const grown = (process.memoryUsage().rss - before) / 2 ** 20;
  assert.ok(grown < 200, `${grown.toFixed(0)} MiB more after all rounds than after a tenth`);
});

test("a client that asks for much and takes nothing holds a bounded amount", async () => {
  const store = new MemoryStore(64 << 20);
  let reading = 0;
  let most = 0;
  const read = store.read.bind(store);
  store.read = async (offset, pieces) => {
    reading += pieces[0]!.length;
    most = Math.max(most, reading);
    await read(offset, pieces);
  };
  const [client, server] = duplexPair();
  const exports = new Map([["", { disk: store, readOnly: false, contexts: [] }]]);
  const served = negotiate(new Wire(server), { exports, severalClients: true }).then((agreement) =>
    transmit(agreement!),
  );
  client.write(Buffer.concat([clientFlags(), option(Option.GO, text(""), u16s(0))]));
  // Its own side is read by nobody.
  for (let cookie = 0; cookie < 500; cookie++) client.write(request(Command.READ, cookie, 0, 32 << 20));
  await new Promise(setImmediate);
  await new Promise(setImmediate);
  assert.ok(most <= 64 << 20, `${most} bytes under way`);
  server.destroy();
  await assert.rejects(served, StorageError);
});
