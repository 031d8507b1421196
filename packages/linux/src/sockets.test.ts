import assert from "node:assert/strict";
import { closeSync, mkdtempDisposableSync, openSync, readFileSync, readlinkSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { CLOSED, openDescriptors, refused } from "../testing/refusal.ts";
import { close, OpenFlag } from "./file.ts";
import { receiveDescriptors, SocketType, sendDescriptors, socketpair } from "./sockets.ts";

const HELLO = new TextEncoder().encode("hello");

function openEnds<T>(type: number, use: (ours: number, theirs: number) => T): void {
  const before = openDescriptors();
  const [ours, theirs] = socketpair(type);
  try {
    use(ours, theirs);
  } finally {
    close(ours);
    close(theirs);
  }
  assert.equal(openDescriptors(), before, "no descriptor is left open");
}

test("two descriptors arrive as duplicates that outlive the sender's", () => {
  using dir = mkdtempDisposableSync(join(tmpdir(), "lodge-sockets-"));
  openEnds(SocketType.STREAM, (ours, theirs) => {
    const paths = ["a", "b"].map((name) => join(dir.path, name));
    const sent = paths.map((path) => openSync(path, "w"));
    assert.equal(sendDescriptors(ours, HELLO, sent), 5);
    for (const fd of sent) closeSync(fd);

    const { data, descriptors } = receiveDescriptors(theirs, 64, 2);
    assert.deepEqual(data, HELLO);
    assert.deepEqual(
      descriptors.map((fd) => readlinkSync(`/proc/self/fd/${fd}`)),
      paths,
    );
    for (const fd of descriptors) {
      const flags = /flags:\s+([0-7]+)/.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"))![1]!;
      assert.ok(Number.parseInt(flags, 8) & OpenFlag.CLOEXEC);
      writeSync(fd, "through the duplicate");
      closeSync(fd);
    }
    assert.equal(readFileSync(paths[1]!, "utf8"), "through the duplicate");
  });
});

test("data alone, with and without room for descriptors", () => {
  openEnds(SocketType.STREAM, (ours, theirs) => {
    // A view into the middle of a larger buffer, on memory that threads share.
    const shared = new Uint8Array(new SharedArrayBuffer(16), 4, 5);
    shared.set(HELLO);
    assert.equal(sendDescriptors(ours, shared, []), 5);
    const first = receiveDescriptors(theirs, 3, 0);
    assert.deepEqual([...first.data], [...HELLO.subarray(0, 3)]);
    const rest = receiveDescriptors(theirs, 3, 4);
    assert.deepEqual([...rest.data], [...HELLO.subarray(3)]);
    assert.deepEqual(rest.descriptors, []);
  });
});

test("the end of the other side is no data", () => {
  const [ours, theirs] = socketpair();
  close(ours);
  const { data, descriptors } = receiveDescriptors(theirs, 8, 1);
  assert.deepEqual([data.length, descriptors.length], [0, 0]);
  refused(() => sendDescriptors(theirs, HELLO, []), "EPIPE", "sendmsg", `fd ${theirs}, 0 descriptors`);
  close(theirs);
});

test("more descriptors than there is room for are refused, and none leaks", () => {
  for (const [sent, room] of [
    [1, 0],
    [2, 1],
    [3, 2],
    [4, 1],
    [253, 252],
  ] as const) {
    openEnds(SocketType.STREAM, (ours, theirs) => {
      sendDescriptors(ours, HELLO, Array(sent).fill(0));
      const before = openDescriptors();
      assert.throws(() => receiveDescriptors(theirs, 8, room), {
        name: "RangeError",
        message: `fd ${theirs}: the message carries more than the ${room} descriptors there is room for`,
      });
      assert.equal(openDescriptors(), before, `${sent} sent, room for ${room}`);
    });
  }
});

test("a message carries at most 253 descriptors", () => {
  openEnds(SocketType.STREAM, (ours, theirs) => {
    assert.throws(() => sendDescriptors(ours, HELLO, Array(254).fill(0)), RangeError);
    sendDescriptors(ours, HELLO, Array(253).fill(0));
    const { descriptors } = receiveDescriptors(theirs, 8, 1000);
    assert.equal(descriptors.length, 253);
    descriptors.forEach(close);
  });
});

test("a datagram that is longer than the room is refused, and its descriptors are closed", () => {
  for (const type of [SocketType.DGRAM, SocketType.SEQPACKET]) {
    openEnds(type, (ours, theirs) => {
      sendDescriptors(ours, HELLO, [0, 1]);
      assert.throws(() => receiveDescriptors(theirs, 4, 2), {
        message: `fd ${theirs}: the message carries more than the 4 bytes there is room for`,
      });
      sendDescriptors(ours, HELLO, []);
      assert.equal(receiveDescriptors(theirs, 5, 2).data.length, 5, "the next one arrives");
    });
  }
});

test("each refusal names its call and its argument", () => {
  refused(() => socketpair(77), "EINVAL", "socketpair", "type 77");
  refused(() => receiveDescriptors(CLOSED, 1, 1), "EBADF", "recvmsg", `fd ${CLOSED}`);
  openEnds(SocketType.STREAM, (ours) => {
    refused(() => sendDescriptors(ours, HELLO, [CLOSED, 0]), "EBADF", "sendmsg", `fd ${ours}, 2 descriptors`);
  });
});
