/**
 * Sockets that never block: socket(2), connect(2), send(2) and their kin. What a caller has to decide on (`EAGAIN`,
 * `ECONNREFUSED`) comes back as the negative `errno`; what cannot be is thrown.
 */

import { check, Errno, SystemError } from "./errors.ts";
import { writeNumber64 } from "./file.ts";
import { bind as bindCall, lastErrno } from "./libc.ts";
import { addressOf } from "./memory.ts";
import { AddressFamily, decodeEndpoint, type Endpoint, SOCKADDR_ROOM } from "./socket-address.ts";
import { Msghdr, Unix } from "./sockets.ts";

type Transfer = (fd: number, data: Uint8Array, length: number, flags: number) => number;
type NamedTransfer<Size> = (
  fd: number,
  data: Uint8Array,
  length: number,
  flags: number,
  address: Uint8Array,
  size: Size,
) => number;

const c = {
  socket: bindCall<(domain: number, type: number, protocol: number) => number>("int socket(int, int, int)"),
  bind: bindCall<(fd: number, address: Uint8Array, length: number) => number>(
    "int bind(int, const void *, unsigned int)",
  ),
  connect: bindCall<(fd: number, address: Uint8Array, length: number) => number>(
    "int connect(int, const void *, unsigned int)",
  ),
  listen: bindCall<(fd: number, backlog: number) => number>("int listen(int, int)"),
  accept4: bindCall<(fd: number, address: null, length: null, flags: number) => number>(
    "int accept4(int, void *, void *, int)",
  ),
  send: bindCall<Transfer>("intptr_t send(int, const void *, size_t, int)"),
  recv: bindCall<Transfer>("intptr_t recv(int, void *, size_t, int)"),
  sendto: bindCall<NamedTransfer<number>>(
    "intptr_t sendto(int, const void *, size_t, int, const void *, unsigned int)",
  ),
  recvfrom: bindCall<NamedTransfer<Uint32Array>>("intptr_t recvfrom(int, void *, size_t, int, void *, void *)"),
  recvmsg: bindCall<(fd: number, message: ArrayBuffer, flags: number) => number>("intptr_t recvmsg(int, void *, int)"),
  getsockname: bindCall<(fd: number, address: Uint8Array, size: Uint32Array) => number>(
    "int getsockname(int, void *, void *)",
  ),
  getpeername: bindCall<(fd: number, address: Uint8Array, size: Uint32Array) => number>(
    "int getpeername(int, void *, void *)",
  ),
  setsockopt: bindCall<(fd: number, level: number, name: number, value: ArrayBufferView, size: number) => number>(
    "int setsockopt(int, int, int, const void *, unsigned int)",
  ),
  getsockopt: bindCall<(fd: number, level: number, name: number, value: ArrayBufferView, size: Uint32Array) => number>(
    "int getsockopt(int, int, int, void *, void *)",
  ),
  shutdown: bindCall<(fd: number, how: number) => number>("int shutdown(int, int)"),
};

/** netinet/in.h. */
export const Protocol = { ICMP: 1, TCP: 6, UDP: 17, ICMPV6: 58 } as const;

/** Levels of {@link setSocketOption}: asm-generic/socket.h and netinet/in.h. */
export const SocketLevel = { SOL_SOCKET: 1, IPPROTO_IP: 0, IPPROTO_TCP: 6, IPPROTO_IPV6: 41 } as const;

/** asm-generic/socket.h, linux/in.h, linux/in6.h and linux/tcp.h, each of its level. */
export const SocketOption = {
  SO_REUSEADDR: 2,
  SO_ERROR: 4,
  SO_SNDBUF: 7,
  SO_RCVBUF: 8,
  SO_KEEPALIVE: 9,
  SO_LINGER: 13,
  TCP_NODELAY: 1,
  IP_TTL: 2,
  IP_RECVERR: 11,
  IPV6_UNICAST_HOPS: 16,
  IPV6_RECVERR: 25,
  IPV6_V6ONLY: 26,
} as const;

export const MessageFlag = {
  MSG_PEEK: 0x2,
  MSG_DONTWAIT: 0x40,
  MSG_NOSIGNAL: 0x4000,
  MSG_ERRQUEUE: 0x2000,
} as const;

export const Shutdown = { SHUT_RD: 0, SHUT_WR: 1, SHUT_RDWR: 2 } as const;

const SOCK_NONBLOCK = 0o4000;

/** A socket that does not block, close-on-exec. */
export function socket(family: number, type: number, protocol = 0): number {
  const fd = c.socket(family, type | SOCK_NONBLOCK | Unix.SOCK_CLOEXEC, protocol);
  return check(fd, "socket", `family ${family}, type ${type}, protocol ${protocol}`);
}

/** A socket of an address's own family. */
export function internetSocket(address: Uint8Array, type: number, protocol = 0): number {
  return socket(address.length === 16 ? AddressFamily.INET6 : AddressFamily.INET, type, protocol);
}

export function bindSocket(fd: number, address: Uint8Array): void {
  check(c.bind(fd, address, address.length), "bind", `fd ${fd}`);
}

export function listen(fd: number, backlog: number): void {
  check(c.listen(fd, backlog), "listen", `fd ${fd}`);
}

/** Begins to connect: 0 when that is done, or the negative `errno`, which is `EINPROGRESS` mostly. */
export function tryConnect(fd: number, address: Uint8Array): number {
  return outcome(c.connect(fd, address, address.length));
}

/** A connection that waits at a listening socket, or the negative `errno`. */
export function tryAccept(fd: number): number {
  return outcome(c.accept4(fd, null, null, SOCK_NONBLOCK | Unix.SOCK_CLOEXEC));
}

/** Bytes sent, or the negative `errno`. Never raises SIGPIPE. */
export function trySend(fd: number, data: Uint8Array): number {
  return outcome(c.send(fd, data, data.length, MessageFlag.MSG_NOSIGNAL));
}

/** Bytes received, 0 at the end of a stream, or the negative `errno`. */
export function tryReceive(fd: number, room: Uint8Array): number {
  return outcome(c.recv(fd, room, room.length, 0));
}

/** A datagram to an address that {@link encodeEndpoint} made. */
export function trySendTo(fd: number, data: Uint8Array, address: Uint8Array): number {
  return outcome(c.sendto(fd, data, data.length, MessageFlag.MSG_NOSIGNAL, address, address.length));
}

const name = new Uint8Array(SOCKADDR_ROOM);
const nameSize = new Uint32Array(1);

/** A datagram into `room`, and who sent it; a number is the negative `errno`. What is longer than the room is cut. */
export function tryReceiveFrom(fd: number, room: Uint8Array): { length: number; from: Endpoint | undefined } | number {
  nameSize[0] = name.length;
  const length = c.recvfrom(fd, room, room.length, 0, name, nameSize);
  if (length < 0) return -lastErrno();
  return { length, from: nameSize[0] >= 16 ? decodeEndpoint(name) : undefined };
}

export function localEndpoint(fd: number): Endpoint | undefined {
  nameSize[0] = name.length;
  check(c.getsockname(fd, name, nameSize), "getsockname", `fd ${fd}`);
  return decodeEndpoint(name);
}

/** Undefined when the peer is none of the internet, or gone. */
export function peerEndpoint(fd: number): Endpoint | undefined {
  nameSize[0] = name.length;
  return c.getpeername(fd, name, nameSize) < 0 ? undefined : decodeEndpoint(name);
}

const option = new Int32Array(2);
const optionSize = new Uint32Array(1);

export function setSocketOption(fd: number, level: number, which: number, value: number): void {
  option[0] = value;
  check(c.setsockopt(fd, level, which, option, 4), "setsockopt", `option ${level}:${which} of fd ${fd}`);
}

export function socketOption(fd: number, level: number, which: number): number {
  optionSize[0] = 4;
  check(c.getsockopt(fd, level, which, option, optionSize), "getsockopt", `option ${level}:${which} of fd ${fd}`);
  return option[0]!;
}

/** What became of a connect, as a positive `errno`; 0 when it is connected. Reading it clears it. */
export function socketError(fd: number): number {
  return socketOption(fd, SocketLevel.SOL_SOCKET, SocketOption.SO_ERROR);
}

/** The next close() sends a reset instead of what is left (struct linger: on, for 0 seconds). */
export function resetOnClose(fd: number): void {
  option[0] = 1;
  option[1] = 0;
  check(c.setsockopt(fd, SocketLevel.SOL_SOCKET, SocketOption.SO_LINGER, option, 8), "setsockopt", `fd ${fd}`);
}

/** 0, or the negative `errno`: of a peer that is gone already, say. */
export function tryShutdown(fd: number, how: number): number {
  return outcome(c.shutdown(fd, how));
}

/** struct sock_extended_err of linux/errqueue.h: offsets in bytes. */
export const ExtendedError = { ERRNO: 0, ORIGIN: 4, TYPE: 5, CODE: 6, INFO: 8, SIZE: 16 } as const;
export const ErrorOrigin = { LOCAL: 1, ICMP: 2, ICMP6: 3 } as const;

/** What the network said of a datagram that was sent. */
export interface DatagramError {
  /** Where the datagram had been sent to. */
  readonly to: Endpoint | undefined;
  readonly errno: number;
  /** One of {@link ErrorOrigin}; the type and code are ICMP's of that family. */
  readonly origin: number;
  readonly type: number;
  readonly code: number;
  /** The MTU, when the datagram was too long. */
  readonly info: number;
  /** The datagram's beginning, as far as there was room. */
  readonly length: number;
}

const ERROR_CONTROL = 512;
const ERROR_ADDRESS = Msghdr.SIZE + 16;
const ERROR_ROOM = ERROR_ADDRESS + SOCKADDR_ROOM;

/** Takes the next error of a socket that has `IP_RECVERR` or `IPV6_RECVERR` on; undefined when there is none. */
export function takeDatagramError(fd: number, room: Uint8Array): DatagramError | undefined {
  const buffer = new ArrayBuffer(ERROR_ROOM + ERROR_CONTROL + room.length);
  const view = new DataView(buffer);
  const address = addressOf(buffer);
  writeNumber64(view, 0, address + ERROR_ADDRESS);
  view.setUint32(8, SOCKADDR_ROOM, true);
  writeNumber64(view, Msghdr.IOV, address + Msghdr.SIZE);
  writeNumber64(view, Msghdr.IOVLEN, 1);
  writeNumber64(view, Msghdr.SIZE, address + ERROR_ROOM + ERROR_CONTROL);
  writeNumber64(view, Msghdr.SIZE + 8, room.length);
  writeNumber64(view, Msghdr.CONTROL, address + ERROR_ROOM);
  writeNumber64(view, Msghdr.CONTROLLEN, ERROR_CONTROL);
  const length = c.recvmsg(fd, buffer, MessageFlag.MSG_ERRQUEUE | MessageFlag.MSG_DONTWAIT);
  if (length < 0) {
    const errno = lastErrno();
    if (errno === Errno.EAGAIN) return undefined;
    throw new SystemError(errno, "recvmsg", `errors of fd ${fd}`);
  }
  room.set(new Uint8Array(buffer, ERROR_ROOM + ERROR_CONTROL, length));
  const to = decodeEndpoint(new Uint8Array(buffer), ERROR_ADDRESS);
  // The one control message: u64 length, i32 level, i32 type, then struct sock_extended_err.
  const data = ERROR_ROOM + 16;
  const u8 = (field: number) => view.getUint8(data + field);
  return {
    to,
    errno: view.getUint32(data + ExtendedError.ERRNO, true),
    origin: u8(ExtendedError.ORIGIN),
    type: u8(ExtendedError.TYPE),
    code: u8(ExtendedError.CODE),
    info: view.getUint32(data + ExtendedError.INFO, true),
    length,
  };
}

function outcome(result: number): number {
  return result < 0 ? -lastErrno() : result;
}
