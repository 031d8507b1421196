/** Peers that know nothing newer than NBD_OPT_EXPORT_NAME and simple replies. */

import assert from "node:assert/strict";
import { duplexPair } from "node:stream";
import { test } from "node:test";
import { randomBytes } from "../../testing/bytes.ts";
import { MemoryStore } from "../../testing/memory-store.ts";
import { clientFlags, option, request } from "../../testing/nbd-messages.ts";
import { Connection } from "./client/connection.ts";
import { negotiate as clientSide } from "./client/negotiation.ts";
import {
  Can,
  Command,
  GREETING_MAGIC,
  Handshake,
  NbdErrno,
  OPTION_MAGIC,
  OPTION_REPLY_MAGIC,
  Option,
  OptionReply,
  SIMPLE_REPLY_MAGIC,
} from "./protocol.ts";
import { negotiate as serverSide } from "./server/negotiation.ts";
import { transmit } from "./server/transmission.ts";
import { Wire } from "./wire.ts";

const SIZE = 64 << 10;

for (const noZeroes of [false, true]) {
  test(`a client that names its export at once${noZeroes ? ", without zeros behind" : ""}`, async () => {
    const store = MemoryStore.of(randomBytes(SIZE, 1));
    const exports = new Map([["old", { disk: store, readOnly: false, contexts: [] }]]);
    const [near, far] = duplexPair();
    const served = serverSide(new Wire(far), { exports, severalClients: false }).then((agreement) =>
      transmit(agreement!),
    );
    const client = new Wire(near);
    assert.equal((await client.take(18)).readBigUInt64BE(), GREETING_MAGIC);
    const flags = Handshake.FIXED_NEWSTYLE | (noZeroes ? Handshake.NO_ZEROES : 0);
    await client.send(clientFlags(flags), option(Option.EXPORT_NAME, Buffer.from("old")));
    const answer = await client.take(noZeroes ? 10 : 134);
    assert.equal(answer.readBigUInt64BE(), BigInt(SIZE));
    assert.ok((answer.readUInt16BE(8) & Can.HAS_FLAGS) !== 0);
    assert.ok(answer.subarray(10).every((byte) => byte === 0));

    await client.send(request(Command.READ, 7, 512, 1024), request(Command.READ, 8, SIZE, 1));
    const reply = await client.take(16 + 1024);
    assert.deepEqual([reply.readUInt32BE(0), reply.readUInt32BE(4)], [SIMPLE_REPLY_MAGIC, 0]);
    assert.ok(reply.subarray(16).equals(store.bytes.subarray(512, 1536)));
    const refused = await client.take(16);
    assert.deepEqual([refused.readUInt32BE(4), refused.readBigUInt64BE(8)], [NbdErrno.EINVAL, 8n]);
    await client.send(request(Command.DISC, 9, 0, 0));
    await served;
  });
}

test("a client that names an export that is not there is cut off", async () => {
  const [near, far] = duplexPair();
  const served = serverSide(new Wire(far), { exports: new Map(), severalClients: false });
  near.write(Buffer.concat([clientFlags(), option(Option.EXPORT_NAME, Buffer.from("none"))]));
  await assert.rejects(served, { code: "STORAGE_IO", message: /no such export/ });
});

/** A server that refuses every option but the oldest, and then serves one read and one write. */
async function oldServer(wire: Wire, content: Buffer): Promise<void> {
  const greeting = Buffer.alloc(18);
  greeting.writeBigUInt64BE(GREETING_MAGIC, 0);
  greeting.writeBigUInt64BE(OPTION_MAGIC, 8);
  greeting.writeUInt16BE(Handshake.FIXED_NEWSTYLE, 16);
  await wire.send(greeting);
  await wire.take(4);
  for (;;) {
    const header = await wire.take(16);
    const number = header.readUInt32BE(8);
    await wire.skip(header.readUInt32BE(12));
    if (number === Option.EXPORT_NAME) break;
    const refusal = Buffer.alloc(20);
    refusal.writeBigUInt64BE(OPTION_REPLY_MAGIC, 0);
    refusal.writeUInt32BE(number, 8);
    refusal.writeUInt32BE(OptionReply.ERR_UNSUP, 12);
    await wire.send(refusal);
  }
  const offered = Buffer.alloc(134);
  offered.writeBigUInt64BE(BigInt(content.length), 0);
  offered.writeUInt16BE(Can.HAS_FLAGS, 8);
  await wire.send(offered);
  for (const errno of [0, NbdErrno.ENOSPC]) {
    const asked = await wire.take(28);
    const reply = Buffer.alloc(16);
    reply.writeUInt32BE(SIMPLE_REPLY_MAGIC, 0);
    reply.writeUInt32BE(errno, 4);
    asked.copy(reply, 8, 8, 16);
    const length = asked.readUInt32BE(24);
    if (asked.readUInt16BE(6) === Command.WRITE) await wire.skip(length);
    const at = Number(asked.readBigUInt64BE(16));
    await wire.send(reply, ...(errno === 0 ? [content.subarray(at, at + length)] : []));
  }
}

test("a server that knows no other option: our client reads and writes all the same", async () => {
  const content = randomBytes(SIZE, 2);
  const [near, far] = duplexPair();
  const served = oldServer(new Wire(far), content);
  const remote = await clientSide(new Wire(near), "disk");
  const { sizeBytes, flags, structuredReplies, allocation } = remote;
  assert.deepEqual([sizeBytes, flags, structuredReplies, allocation], [SIZE, Can.HAS_FLAGS, false, undefined]);
  const connection = Connection.over(remote);
  const into = [Buffer.alloc(100), Buffer.alloc(4000)];
  await connection.request({ type: Command.READ, offset: 1000, length: 4100, into });
  assert.ok(Buffer.concat(into).equals(content.subarray(1000, 5100)));
  const write = connection.request({ type: Command.WRITE, offset: 0, length: 5, data: [Buffer.from("hello")] });
  await assert.rejects(write, { code: "STORAGE_IO", message: /ENOSPC/ });
  await served;
  connection.close();
});
