/**
 * Stream sockets by path that carry frames. They are made here and not by Node, which does not say how much the kernel may keep
 * of what is sent: unless told, that is three frames of 64 KiB, so that the two ends wake each other for every few of them.
 */

import { rmSync } from "node:fs";
import { Socket } from "node:net";
import {
  AddressFamily,
  bindSocket,
  close,
  encodeUnixPath,
  listen,
  SocketLevel,
  SocketOption,
  SocketType,
  SystemError,
  setSocketOption,
  socket,
  tryConnect,
} from "@lodge/linux";
import { acceptAt } from "./accepting.ts";
import { Poller } from "./poller.ts";

/** Sixteen frames; the host may allow less (net.core.wmem_max). */
const SEND_BUFFER = 1 << 20;
const BACKLOG = 511;

/** Of a connection that is made; it has the descriptor, and closes it. */
function streamOf(fd: number): Socket {
  setSocketOption(fd, SocketLevel.SOL_SOCKET, SocketOption.SO_SNDBUF, SEND_BUFFER);
  return new Socket({ fd, readable: true, writable: true });
}

/** Connects to who listens at a path; that is done at once, or refused with a `SystemError`. */
export function connectUnix(path: string): Socket {
  const address = encodeUnixPath(path);
  const fd = socket(AddressFamily.UNIX, SocketType.STREAM);
  const result = tryConnect(fd, address);
  if (result === 0) return streamOf(fd);
  close(fd);
  throw new SystemError(-result, "connect", path);
}

/** Listens at a path, where nothing is; what it leads to is removed in the end. */
export function listenUnix(path: string, accepted: (socket: Socket) => void): Disposable {
  const address = encodeUnixPath(path);
  using undo = new DisposableStack();
  const poller = undo.use(new Poller());
  const fd = socket(AddressFamily.UNIX, SocketType.STREAM);
  undo.use(acceptAt(fd, poller, (connection) => accepted(streamOf(connection))));
  bindSocket(fd, address);
  undo.defer(() => rmSync(path, { force: true }));
  listen(fd, BACKLOG);
  const resources = undo.move();
  return { [Symbol.dispose]: () => resources.dispose() };
}
