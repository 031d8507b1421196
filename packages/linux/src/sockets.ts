/** Socket pairs, and descriptors sent over Unix sockets: socketpair(2), unix(7) SCM_RIGHTS. */

import { check } from "./errors.ts";
import { close, writeNumber64 } from "./file.ts";
import { bind } from "./libc.ts";
import { addressOf } from "./memory.ts";

const c = {
  socketpair: bind<(domain: number, type: number, protocol: number, fds: Int32Array) => number>(
    "int socketpair(int, int, int, void *)",
  ),
  sendmsg: bind<(fd: number, message: ArrayBufferView, flags: number) => number>(
    "intptr_t sendmsg(int, const void *, int)",
  ),
  recvmsg: bind<(fd: number, message: ArrayBufferView, flags: number) => number>("intptr_t recvmsg(int, void *, int)"),
};

const AF_UNIX = 1;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_CTRUNC = 0x8;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x40000000;

/** Linux sends at most SCM_MAX_FD descriptors in one message. */
const MAX_DESCRIPTORS = 253;

export const SocketType = { STREAM: 1, DGRAM: 2, SEQPACKET: 5 } as const;

/** Two connected Unix sockets, close-on-exec. */
export function socketpair(type: number = SocketType.STREAM): [number, number] {
  const fds = new Int32Array(2);
  check(c.socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds), "socketpair", `type ${type}`);
  return [fds[0]!, fds[1]!];
}

/**
 * Sends bytes (at least one: a stream carries descriptors with data only) and descriptors; returns the bytes sent.
 * The receiver gets duplicates; ours stay open.
 */
export function sendDescriptors(fd: number, data: Uint8Array, descriptors: readonly number[]): number {
  if (descriptors.length > MAX_DESCRIPTORS) throw new RangeError(`one message carries ${MAX_DESCRIPTORS} descriptors`);
  const message = new Message(data.slice(), descriptors.length);
  descriptors.forEach((descriptor, index) => {
    message.control.setInt32(CONTROL_HEADER + index * 4, descriptor, true);
  });
  return check(c.sendmsg(fd, message.header, MSG_NOSIGNAL), "sendmsg", `fd ${fd}, ${descriptors.length} descriptors`);
}

/** What {@link receiveDescriptors} got. The caller closes the descriptors. */
export interface Received {
  /** Empty when the other side has closed. */
  data: Uint8Array;
  descriptors: number[];
}

/** Receives up to `maxBytes` bytes with up to `maxDescriptors` descriptors; blocks as the socket does. */
export function receiveDescriptors(fd: number, maxBytes: number, maxDescriptors: number): Received {
  const data = new Uint8Array(maxBytes);
  const message = new Message(data, Math.min(maxDescriptors, MAX_DESCRIPTORS));
  const length = check(c.recvmsg(fd, message.header, MSG_CMSG_CLOEXEC), "recvmsg", `fd ${fd}`);
  const descriptors = message.descriptors();
  if (message.flags & MSG_CTRUNC) {
    for (const descriptor of descriptors) close(descriptor);
    throw new RangeError(`fd ${fd}: the message carries more than the ${maxDescriptors} descriptors there is room for`);
  }
  return { data: data.subarray(0, length), descriptors };
}

/** struct cmsghdr: u64 length, i32 level, i32 type. */
const CONTROL_HEADER = 16;

/** struct msghdr with one piece of data and one control message. */
class Message {
  readonly header = new DataView(new ArrayBuffer(56));
  readonly control: DataView;
  /** Held here because the header has only its address. */
  readonly #piece = new DataView(new ArrayBuffer(16));

  constructor(data: Uint8Array, descriptors: number) {
    this.control = new DataView(new ArrayBuffer(descriptors > 0 ? CONTROL_HEADER + align8(descriptors * 4) : 0));
    writeNumber64(this.#piece, 0, addressOf(data));
    writeNumber64(this.#piece, 8, data.length);
    writeNumber64(this.header, 16, addressOf(this.#piece));
    writeNumber64(this.header, 24, 1);
    if (descriptors === 0) return;
    writeNumber64(this.header, 32, addressOf(this.control));
    writeNumber64(this.header, 40, this.control.byteLength);
    writeNumber64(this.control, 0, CONTROL_HEADER + descriptors * 4);
    this.control.setInt32(8, SOL_SOCKET, true);
    this.control.setInt32(12, SCM_RIGHTS, true);
  }

  get flags(): number {
    return this.header.getInt32(48, true);
  }

  /** The descriptors that the kernel put into the control message. */
  descriptors(): number[] {
    const descriptors: number[] = [];
    if (this.header.getUint32(40, true) < CONTROL_HEADER) return descriptors;
    if (this.control.getInt32(8, true) !== SOL_SOCKET || this.control.getInt32(12, true) !== SCM_RIGHTS) return [];
    const end = Math.min(this.control.getUint32(0, true), this.control.byteLength);
    for (let offset = CONTROL_HEADER; offset + 4 <= end; offset += 4) {
      descriptors.push(this.control.getInt32(offset, true));
    }
    return descriptors;
  }
}

function align8(bytes: number): number {
  return (bytes + 7) & ~7;
}
