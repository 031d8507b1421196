/** Unix sockets whose process was killed: their files stay, and nobody can bind there again. */

import { lstatSync, rmSync } from "node:fs";
import { AddressFamily, close, Errno, encodeUnixPath, SocketType, socket, tryConnect } from "@lodge/linux";

/** Takes away a socket that nobody has open any more. Everything else stays: a bind tells what is there. */
export function removeAbandonedSocket(path: string): void {
  if (!lstatSync(path, { throwIfNoEntry: false })?.isSocket()) return;
  // Of a type that nobody here has: who is there does not hear of it, and the kernel says that it is not theirs (EPROTOTYPE).
  const probe = socket(AddressFamily.UNIX, SocketType.SEQPACKET);
  const result = tryConnect(probe, encodeUnixPath(path));
  close(probe);
  if (result === -Errno.ECONNREFUSED) rmSync(path, { force: true });
}
