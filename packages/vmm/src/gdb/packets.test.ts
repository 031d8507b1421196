import assert from "node:assert/strict";
import { test } from "node:test";
import { LARGEST_PACKET, PacketReader, packet, type Received } from "./packets.ts";

function read(...parts: Uint8Array[]): Received[] {
  const reader = new PacketReader();
  return parts.flatMap((part) => [...reader.feed(part)]);
}

test("packets come out as they went in, wherever they are cut", () => {
  const data = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
  const sent = Buffer.concat([packet(data), Buffer.from([0x03]), packet("OK")]);
  const expected: Received[] = [
    { type: "packet", data },
    { type: "interrupt" },
    { type: "packet", data: Buffer.from("OK") },
  ];
  for (let cut = 0; cut <= sent.length; cut++) {
    assert.deepEqual(read(sent.subarray(0, cut), sent.subarray(cut)), expected, `cut at ${cut}`);
  }
});

test("damage is noticed, and what follows is read", () => {
  const bytes = Buffer.from("+$g#68$g#67-$qC$?#3f");
  assert.deepEqual(
    read(bytes).map(({ type }) => type),
    ["acknowledged", "damaged", "packet", "again", "packet"],
  );
});

test("a packet without end takes no more than the largest one", () => {
  const reader = new PacketReader();
  const chunk = Buffer.alloc(LARGEST_PACKET, "a");
  chunk[0] = 0x24;
  assert.deepEqual([...reader.feed(chunk), ...reader.feed(Buffer.alloc(100, "a"))], []);
  assert.equal([...reader.feed(packet("g"))].length, 1);
});
