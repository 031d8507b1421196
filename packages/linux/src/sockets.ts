/** Socket pairs, and descriptors sent over Unix sockets: socketpair(2), unix(7) SCM_RIGHTS. */

import { check } from "./errors.ts";
import { close, writeNumber64 } from "./file.ts";
import { bind } from "./libc.ts";
import { addressOf } from "./memory.ts";

type MessageCall = (fd: number, message: ArrayBuffer, flags: number) => number;

const c = {
  socketpair: bind<(domain: number, type: number, protocol: number, fds: Int32Array) => number>(
    "int socketpair(int, int, int, void *)",
  ),
  sendmsg: bind<MessageCall>("intptr_t sendmsg(int, const void *, int)"),
  recvmsg: bind<MessageCall>("intptr_t recvmsg(int, void *, int)"),
};

export const SocketType = { STREAM: 1, DGRAM: 2, SEQPACKET: 5 } as const;

/** asm-generic/socket.h and linux/socket.h. */
export const Unix = {
  AF_UNIX: 1,
  SOCK_CLOEXEC: 0o2000000,
  SOL_SOCKET: 1,
  SCM_RIGHTS: 1,
  MSG_CTRUNC: 0x8,
  MSG_TRUNC: 0x20,
  MSG_NOSIGNAL: 0x4000,
  MSG_CMSG_CLOEXEC: 0x40000000,
} as const;

/** struct msghdr of a 64-bit Linux: offsets in bytes. */
export const Msghdr = { IOV: 16, IOVLEN: 24, CONTROL: 32, CONTROLLEN: 40, FLAGS: 48, SIZE: 56 } as const;

/** struct cmsghdr: u64 length, i32 level, i32 type; then the data. */
export const Cmsghdr = { LEN: 0, LEVEL: 8, TYPE: 12, SIZE: 16 } as const;

/** SCM_MAX_FD of net/scm.h, a header of the kernel alone: what one message carries at most. */
export const MAX_DESCRIPTORS = 253;

/** Two connected Unix sockets, close-on-exec. */
export function socketpair(type: number = SocketType.STREAM): [number, number] {
  const fds = new Int32Array(2);
  check(c.socketpair(Unix.AF_UNIX, type | Unix.SOCK_CLOEXEC, 0, fds), "socketpair", `type ${type}`);
  return [fds[0]!, fds[1]!];
}

/**
 * Sends bytes (at least one: a stream carries descriptors with data only) and descriptors; returns the bytes sent.
 * The receiver gets duplicates; ours stay open.
 */
export function sendDescriptors(fd: number, data: Uint8Array, descriptors: readonly number[]): number {
  if (descriptors.length > MAX_DESCRIPTORS) throw new RangeError(`one message carries ${MAX_DESCRIPTORS} descriptors`);
  const message = new Message(data.length, descriptors.length);
  message.data.set(data);
  message.setDescriptors(descriptors);
  const sent = c.sendmsg(fd, message.buffer, Unix.MSG_NOSIGNAL);
  return check(sent, "sendmsg", `fd ${fd}, ${descriptors.length} descriptors`);
}

/** What {@link receiveDescriptors} got. The caller closes the descriptors. */
export interface Received {
  /** Empty when the other side has closed. */
  data: Uint8Array;
  descriptors: number[];
}

/**
 * Receives up to `maxBytes` bytes with up to `maxDescriptors` descriptors; blocks as the socket does. A message that
 * does not fit (more descriptors, a longer datagram) is lost and refused; its descriptors are closed.
 */
export function receiveDescriptors(fd: number, maxBytes: number, maxDescriptors: number): Received {
  const message = new Message(maxBytes, Math.min(maxDescriptors, MAX_DESCRIPTORS));
  const length = check(c.recvmsg(fd, message.buffer, Unix.MSG_CMSG_CLOEXEC), "recvmsg", `fd ${fd}`);
  const descriptors = message.descriptors();
  if (message.flags & (Unix.MSG_CTRUNC | Unix.MSG_TRUNC)) {
    for (const descriptor of descriptors) close(descriptor);
    const room = message.flags & Unix.MSG_TRUNC ? `${maxBytes} bytes` : `${maxDescriptors} descriptors`;
    throw new RangeError(`fd ${fd}: the message carries more than the ${room} there is room for`);
  }
  return { data: message.data.subarray(0, length), descriptors };
}

const IOVEC = Msghdr.SIZE;
const CONTROL = IOVEC + 16;

/**
 * struct msghdr, its one iovec, its one control message and the data, in one buffer: they hold each other's addresses,
 * so they must live equally long.
 */
class Message {
  readonly buffer: ArrayBuffer;
  readonly data: Uint8Array;
  readonly #view: DataView;

  constructor(bytes: number, descriptors: number) {
    // Exactly the descriptors' length: with its padding, an odd number would let the kernel put in one more.
    const controlLength = descriptors > 0 ? Cmsghdr.SIZE + descriptors * 4 : 0;
    this.buffer = new ArrayBuffer(CONTROL + controlLength + bytes);
    this.data = new Uint8Array(this.buffer, CONTROL + controlLength);
    this.#view = new DataView(this.buffer);
    const address = addressOf(this.buffer);
    writeNumber64(this.#view, IOVEC, address + this.data.byteOffset);
    writeNumber64(this.#view, IOVEC + 8, bytes);
    writeNumber64(this.#view, Msghdr.IOV, address + IOVEC);
    writeNumber64(this.#view, Msghdr.IOVLEN, 1);
    if (descriptors === 0) return;
    writeNumber64(this.#view, Msghdr.CONTROL, address + CONTROL);
    writeNumber64(this.#view, Msghdr.CONTROLLEN, controlLength);
  }

  get flags(): number {
    return this.#view.getInt32(Msghdr.FLAGS, true);
  }

  setDescriptors(descriptors: readonly number[]): void {
    if (descriptors.length === 0) return;
    writeNumber64(this.#view, CONTROL + Cmsghdr.LEN, Cmsghdr.SIZE + descriptors.length * 4);
    this.#view.setInt32(CONTROL + Cmsghdr.LEVEL, Unix.SOL_SOCKET, true);
    this.#view.setInt32(CONTROL + Cmsghdr.TYPE, Unix.SCM_RIGHTS, true);
    for (const [index, descriptor] of descriptors.entries()) {
      this.#view.setInt32(CONTROL + Cmsghdr.SIZE + index * 4, descriptor, true);
    }
  }

  /** The descriptors that the kernel put into the control message. */
  descriptors(): number[] {
    const received: number[] = [];
    // The kernel leaves here the length that it filled.
    if (this.#view.getUint32(Msghdr.CONTROLLEN, true) < Cmsghdr.SIZE) return received;
    if (this.#view.getInt32(CONTROL + Cmsghdr.LEVEL, true) !== Unix.SOL_SOCKET) return received;
    if (this.#view.getInt32(CONTROL + Cmsghdr.TYPE, true) !== Unix.SCM_RIGHTS) return received;
    const end = CONTROL + this.#view.getUint32(CONTROL + Cmsghdr.LEN, true);
    for (let at = CONTROL + Cmsghdr.SIZE; at < end; at += 4) received.push(this.#view.getInt32(at, true));
    return received;
  }
}
