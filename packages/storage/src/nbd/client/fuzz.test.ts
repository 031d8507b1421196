/** The client against servers that say anything. */

import assert from "node:assert/strict";
import { duplexPair } from "node:stream";
import { test } from "node:test";
import { randomBytes, randomNumbers } from "../../../testing/bytes.ts";
import { MemoryStore } from "../../../testing/memory-store.ts";
import { StorageError } from "../../errors.ts";
import { Command, CommandFlag } from "../protocol.ts";
import { baseAllocation } from "../server/contexts.ts";
import { negotiate as serverSide } from "../server/negotiation.ts";
import { transmit } from "../server/transmission.ts";
import { Wire } from "../wire.ts";
import { Connection } from "./connection.ts";
import { negotiate } from "./negotiation.ts";

const SIZE = 128 << 10;
const rounds = process.env.LODGE_LONG === "1" ? 100_000 : 4_000;

/** What a client asks for in its life; the outcomes of all. */
async function use(connection: Connection, memory: Buffer[]): Promise<PromiseSettledResult<unknown>[]> {
  const { READ, WRITE, FLUSH, BLOCK_STATUS } = Command;
  const status = connection.remote.allocation === undefined ? [] : [{ type: BLOCK_STATUS, offset: 0, length: SIZE }];
  return await Promise.allSettled(
    [
      { type: READ, offset: 0, length: 65536, into: [memory[0]!, memory[1]!] },
      { type: READ, offset: 512, length: 8, into: [memory[2]!], flags: CommandFlag.DF },
      { type: WRITE, offset: 70_000, length: 5, data: [Buffer.from("hello")] },
      { type: FLUSH, offset: 0, length: 0 },
      { type: READ, offset: SIZE, length: 8, into: [memory[2]!] },
      ...status,
    ].map((request) => connection.request(request)),
  );
}

/** What a server of ours says to such a client, to be changed. */
async function recorded(): Promise<Buffer> {
  const store = new MemoryStore(SIZE);
  await store.write(8192, [randomBytes(30_000, 3)]);
  const offered = { disk: store, readOnly: false, contexts: [baseAllocation(store)] };
  const [client, server] = duplexPair();
  const said: Buffer[] = [];
  const served = serverSide(new Wire(server), { exports: new Map([["", offered]]), severalClients: true }).then(
    (agreement) => transmit(agreement!),
  );
  client.on("data", (bytes) => said.push(bytes));
  const connection = Connection.over(await negotiate(new Wire(client), ""));
  const outcomes = await use(connection, [Buffer.alloc(65000), Buffer.alloc(536), Buffer.alloc(8)]);
  assert.deepEqual(
    outcomes.map(({ status }) => status),
    ["fulfilled", "fulfilled", "fulfilled", "fulfilled", "rejected", "fulfilled"],
  );
  connection.close();
  await served;
  return Buffer.concat(said);
}

function mutate(said: Buffer, random: (below: number) => number): Buffer {
  const bytes = Buffer.from(said);
  // The interesting bytes are the headers; most of the rest is a read's data.
  const from = random(2) === 0 ? random(Math.min(bytes.length, 800)) : random(bytes.length);
  switch (random(4)) {
    case 0:
      bytes[from] = random(256);
      return bytes;
    case 1:
      bytes.writeUInt32BE([0, 1, 0x7fffffff, 0xffffffff, 12][random(5)]!, Math.min(from, bytes.length - 4));
      return bytes;
    case 2:
      return Buffer.concat([bytes.subarray(0, from), randomBytes(random(40), from), bytes.subarray(from + random(40))]);
    default:
      return bytes.subarray(0, from);
  }
}

test(`${rounds} servers that are wrong somewhere: nothing but errors, and no byte outside of what a read asked for`, async () => {
  const said = await recorded();
  const random = randomNumbers(5);
  const untouched = Buffer.alloc(200_000, 0xee);
  let answered = 0;
  for (let round = 0; round < rounds; round++) {
    const [client, server] = duplexPair();
    server.on("error", () => {}).resume();
    const bytes = mutate(said, random);
    const cut = random(bytes.length + 1);
    server.write(bytes.subarray(0, cut));
    server.end(bytes.subarray(cut));
    // Beside each piece that is read into lies memory that is nobody's.
    const memory = Buffer.alloc(200_000, 0xee);
    const pieces = [memory.subarray(1000, 66_000), memory.subarray(70_000, 70_536), memory.subarray(90_000, 90_008)];
    try {
      const connection = Connection.over(await negotiate(new Wire(client), ""));
      for (const outcome of await use(connection, pieces)) {
        if (outcome.status === "fulfilled") answered += 1;
        else assert.ok(outcome.reason instanceof StorageError, `round ${round}: ${outcome.reason}`);
      }
      connection.close();
    } catch (error) {
      assert.ok(error instanceof StorageError, `round ${round}: ${error}`);
    }
    client.destroy();
    for (const [from, to] of [
      [0, 1000],
      [66_000, 70_000],
      [70_536, 90_000],
      [90_008, 200_000],
    ] as const) {
      assert.ok(memory.subarray(from, to).equals(untouched.subarray(from, to)));
    }
  }
  assert.ok(answered > rounds / 10, "most get somewhere");
});
