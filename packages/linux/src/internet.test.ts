import assert from "node:assert/strict";
import { mkdtempDisposableSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { CLOSED, openDescriptors, refused } from "../testing/refusal.ts";
import { Errno } from "./errors.ts";
import { Epoll, EpollEvent } from "./events.ts";
import { close } from "./file.ts";
import * as internet from "./internet.ts";
import { AddressFamily, decodeEndpoint, encodeEndpoint, encodeUnixPath } from "./socket-address.ts";
import { SocketType } from "./sockets.ts";

const LOOPBACK = Uint8Array.of(127, 0, 0, 1);
const LOOPBACK6 = Uint8Array.of(...new Uint8Array(15), 1);
const HELLO = new TextEncoder().encode("hello");

/** Waits for one of these events on a descriptor. */
function wait(fd: number, events: number): void {
  using epoll = new Epoll();
  epoll.add(fd, events);
  assert.equal(epoll.wait(5000), 1);
}

for (const [family, address] of [
  ["IPv4", LOOPBACK],
  ["IPv6", LOOPBACK6],
] as const) {
  test(`a stream over ${family}: connect, accept, both ways, the end, and a reset`, () => {
    const before = openDescriptors();
    const server = internet.internetSocket(address, SocketType.STREAM);
    internet.bindSocket(server, encodeEndpoint({ address, port: 0 }));
    internet.listen(server, 1);
    const to = internet.localEndpoint(server)!;
    assert.equal(internet.tryAccept(server), -Errno.EAGAIN);
    const client = internet.internetSocket(address, SocketType.STREAM);
    assert.ok([0, -Errno.EINPROGRESS].includes(internet.tryConnect(client, encodeEndpoint(to))));
    wait(client, EpollEvent.OUT);
    assert.equal(internet.socketError(client), 0);
    wait(server, EpollEvent.IN);
    const accepted = internet.tryAccept(server);
    assert.deepEqual(internet.peerEndpoint(accepted), internet.localEndpoint(client));
    const room = new Uint8Array(16);
    assert.equal(internet.tryReceive(accepted, room), -Errno.EAGAIN);
    assert.equal(internet.trySend(client, HELLO), 5);
    wait(accepted, EpollEvent.IN);
    assert.equal(internet.tryReceive(accepted, room), 5);
    assert.deepEqual(room.subarray(0, 5), HELLO);
    assert.equal(internet.tryShutdown(client, internet.Shutdown.SHUT_WR), 0);
    wait(accepted, EpollEvent.IN);
    assert.equal(internet.tryReceive(accepted, room), 0);
    internet.resetOnClose(accepted);
    close(accepted);
    wait(client, EpollEvent.HUP);
    assert.equal(internet.tryReceive(client, room), -Errno.ECONNRESET);
    close(client);
    close(server);
    assert.equal(openDescriptors(), before);
  });

  test(`datagrams over ${family}, and the network's word that nobody is there`, () => {
    const [one, other] = [0, 1].map(() => internet.internetSocket(address, SocketType.DGRAM)) as [number, number];
    for (const fd of [one, other]) internet.bindSocket(fd, encodeEndpoint({ address, port: 0 }));
    const [level, option] =
      address.length === 4
        ? [internet.SocketLevel.IPPROTO_IP, internet.SocketOption.IP_RECVERR]
        : [internet.SocketLevel.IPPROTO_IPV6, internet.SocketOption.IPV6_RECVERR];
    internet.setSocketOption(one, level, option, 1);
    assert.equal(internet.socketOption(one, level, option), 1);
    const to = internet.localEndpoint(other)!;
    assert.equal(internet.trySendTo(one, HELLO, encodeEndpoint(to)), 5);
    wait(other, EpollEvent.IN);
    const room = new Uint8Array(64);
    assert.deepEqual(internet.tryReceiveFrom(other, room), { length: 5, from: internet.localEndpoint(one) });
    assert.equal(internet.tryReceiveFrom(other, room), -Errno.EAGAIN);
    assert.equal(internet.takeDatagramError(one, room), undefined);
    close(other);
    internet.trySendTo(one, HELLO, encodeEndpoint(to));
    wait(one, EpollEvent.ERR);
    const error = internet.takeDatagramError(one, room)!;
    assert.deepEqual([error.errno, error.to?.port, error.length], [Errno.ECONNREFUSED, to.port, 5]);
    assert.deepEqual(
      [error.origin, error.type, error.code],
      address.length === 4 ? [internet.ErrorOrigin.ICMP, 3, 3] : [internet.ErrorOrigin.ICMP6, 1, 4],
    );
    close(one);
  });
}

test("a Unix socket by its path", () => {
  using folder = mkdtempDisposableSync(join(tmpdir(), "lodge-internet-"));
  const path = join(folder.path, "socket");
  const server = internet.socket(AddressFamily.UNIX, SocketType.STREAM);
  internet.bindSocket(server, encodeUnixPath(path));
  internet.listen(server, 1);
  const client = internet.socket(AddressFamily.UNIX, SocketType.STREAM);
  assert.equal(internet.tryConnect(client, encodeUnixPath(path)), 0);
  assert.equal(internet.peerEndpoint(client), undefined);
  close(client);
  close(server);
});

test("addresses there and back, and what is none", () => {
  for (const endpoint of [
    { address: LOOPBACK, port: 65535 },
    { address: LOOPBACK6, port: 1 },
    { address: Uint8Array.of(0xfe, 0x80, ...new Uint8Array(14)), port: 2, scope: 7 },
  ]) {
    assert.deepEqual(decodeEndpoint(encodeEndpoint(endpoint)), endpoint);
  }
  assert.throws(() => encodeEndpoint({ address: new Uint8Array(5), port: 1 }), RangeError);
  for (const path of ["", "a\0b", "x".repeat(108)]) assert.throws(() => encodeUnixPath(path), RangeError, path);
  assert.equal(encodeUnixPath("@name").length, 7);
});

test("each refusal names its call and its argument", () => {
  refused(() => internet.socket(77, 1), "EAFNOSUPPORT", "socket", "family 77, type 1, protocol 0");
  refused(() => internet.listen(CLOSED, 1), "EBADF", "listen", `fd ${CLOSED}`);
  refused(
    () => internet.bindSocket(CLOSED, encodeEndpoint({ address: LOOPBACK, port: 0 })),
    "EBADF",
    "bind",
    `fd ${CLOSED}`,
  );
  refused(() => internet.setSocketOption(CLOSED, 1, 2, 3), "EBADF", "setsockopt", `option 1:2 of fd ${CLOSED}`);
  assert.equal(internet.trySend(CLOSED, HELLO), -Errno.EBADF);
});
