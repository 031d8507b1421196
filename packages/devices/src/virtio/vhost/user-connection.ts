/** A connection to who serves a device: messages with descriptors, and answers in their order. */

import {
  AddressFamily,
  Descriptor,
  Errno,
  encodeUnixPath,
  receiveDescriptors,
  SocketType,
  SystemError,
  sendDescriptors,
  socket,
  tryConnect,
  watchReadable,
} from "@lodge/linux";
import { NetworkError } from "@lodge/network";
import { Header, message, type Request } from "./user-protocol.ts";

/** The longest answer that anything here asks for is a u64. */
const LONGEST_ANSWER = 64;
/** A peer that does not answer is as good as gone: guests wait for it when they reset their card. */
const PATIENCE_MS = 10_000;

interface Waiting {
  readonly request: Request;
  readonly resolve: (answer: DataView) => void;
  readonly reject: (error: Error) => void;
}

export class Connection implements Disposable {
  /** Told once that the peer is gone, and why. */
  onEnd: (why: string) => void = () => {};
  readonly #socket: Descriptor;
  readonly #watch: Disposable;
  readonly #waiting: Waiting[] = [];
  #timer: NodeJS.Timeout | undefined;
  #received = new Uint8Array(0);
  #open = true;

  /** Connects to a Unix socket, which takes no time. Throws a `NetworkError` when nobody listens there. */
  constructor(path: string) {
    this.#socket = dial(path);
    this.#watch = watchReadable(this.#socket.fd, () => this.#receive());
  }

  get isOpen(): boolean {
    return this.#open;
  }

  send(request: Request, payload: Uint8Array = new Uint8Array(0), descriptors: readonly number[] = []): void {
    this.#send(message(request, payload, false), descriptors);
  }

  /** Sends what is answered by its nature. Rejects when the peer goes, or does not answer. */
  ask(request: Request, payload: Uint8Array = new Uint8Array(0)): Promise<DataView> {
    return this.#ask(request, message(request, payload, false), []);
  }

  /** Sends what the peer shall say to that it is done (REPLY_ACK was agreed on). */
  async confirm(request: Request, payload: Uint8Array, descriptors: readonly number[] = []): Promise<void> {
    const answer = await this.#ask(request, message(request, payload, true), descriptors);
    if (answer.byteLength < 8 || answer.getBigUint64(0, true) !== 0n) throw new Error(`it refused request ${request}`);
  }

  #ask(request: Request, bytes: Uint8Array, descriptors: readonly number[]): Promise<DataView> {
    const { promise, resolve, reject } = Promise.withResolvers<DataView>();
    this.#waiting.push({ request, resolve, reject });
    this.#send(bytes, descriptors);
    this.#arm();
    return promise;
  }

  #arm(): void {
    clearTimeout(this.#timer);
    if (this.#open && this.#waiting.length > 0) {
      this.#timer = setTimeout(() => this.end("it does not answer"), PATIENCE_MS);
    }
  }

  #send(bytes: Uint8Array, descriptors: readonly number[]): void {
    if (!this.#open) {
      for (const { reject } of this.#waiting.splice(0)) reject(new Error("the peer is gone"));
      return;
    }
    try {
      // All that is ever sent at once is far less than a socket holds: who leaves that untaken does not listen.
      if (sendDescriptors(this.#socket.fd, bytes, descriptors) !== bytes.length) this.end("it does not read");
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      this.end(error.errno === Errno.EAGAIN ? "it does not read" : "it closed the connection");
    }
  }

  #receive(): void {
    let data: Uint8Array;
    try {
      ({ data } = receiveDescriptors(this.#socket.fd, LONGEST_ANSWER, 0));
    } catch (error) {
      if (error instanceof SystemError && error.errno === Errno.EAGAIN) return;
      this.end(
        error instanceof RangeError ? "it sent descriptors, which nobody asked for" : "it closed the connection",
      );
      return;
    }
    if (data.length === 0) {
      this.end("it closed the connection");
      return;
    }
    this.#received = Buffer.concat([this.#received, data]);
    while (this.#open && this.#takeAnswer());
  }

  /** Takes an answer out of what was received; false when there is no whole one. */
  #takeAnswer(): boolean {
    const bytes = this.#received;
    if (bytes.length < Header.LENGTH) return false;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const size = view.getUint32(Header.SIZE, true);
    const request = view.getUint32(Header.REQUEST, true);
    const waiting = this.#waiting[0];
    // Flags are not looked at: some peers forget REPLY.
    if (waiting?.request !== request || size > LONGEST_ANSWER - Header.LENGTH) {
      this.end(`it sent a message that is no answer (request ${request}, ${size} bytes)`);
      return false;
    }
    if (bytes.length < Header.LENGTH + size) return false;
    const answer = bytes.slice(Header.LENGTH, Header.LENGTH + size);
    this.#received = bytes.subarray(Header.LENGTH + size);
    this.#waiting.shift();
    this.#arm();
    waiting.resolve(new DataView(answer.buffer, answer.byteOffset, size));
    return true;
  }

  /** Closes the connection; whoever waits for an answer is told why. */
  end(why: string): void {
    if (!this.#open) return;
    this.#open = false;
    clearTimeout(this.#timer);
    this.#watch[Symbol.dispose]();
    this.#socket.close();
    for (const { reject } of this.#waiting.splice(0)) reject(new Error(why));
    this.onEnd(why);
  }

  [Symbol.dispose](): void {
    this.onEnd = () => {};
    this.end("the connection was closed");
  }
}

function dial(path: string): Descriptor {
  const refuse = (why: string): never => {
    throw new NetworkError("NETWORK_HOST", `cannot connect to ${path}: ${why}`);
  };
  let address: Uint8Array;
  try {
    address = encodeUnixPath(path);
  } catch (cause) {
    throw new NetworkError("NETWORK_CONFIG", (cause as Error).message, { cause });
  }
  const fd = new Descriptor(socket(AddressFamily.UNIX, SocketType.STREAM));
  const result = tryConnect(fd.fd, address);
  if (result === 0) return fd;
  fd.close();
  return refuse(
    result === -Errno.ENOENT || result === -Errno.ECONNREFUSED
      ? "nobody listens there; start that one first"
      : result === -Errno.EAGAIN
        ? "who listens there takes no more connections"
        : new SystemError(-result, "connect", path).message,
  );
}
