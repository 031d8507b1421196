/** The system calls that Node lacks. Nothing here knows KVM. */

export { Errno, SystemError } from "./errors.ts";
export { Clock, Epoll, EpollEvent, Eventfd, Timerfd, watchReadable } from "./events.ts";
export {
  AllocateFlag,
  close,
  Descriptor,
  fallocate,
  ftruncate,
  IoVector,
  OpenFlag,
  open,
  pread,
  preadv,
  pwrite,
  pwritev,
  read,
  Seek,
  seekExtent,
  setNonBlocking,
  TransferFlag,
  tryPreadv2,
  tryPwritev2,
  tryRead,
  tryWrite,
  write,
} from "./file.ts";
export { At, Dirent, FolderFlag, getdents64, linkat, openat, type PathBytes, readlinkat, seek } from "./folder.ts";
export {
  bindSocket,
  type DatagramError,
  ErrorOrigin,
  ExtendedError,
  internetSocket,
  listen,
  localEndpoint,
  MessageFlag,
  Protocol,
  peerEndpoint,
  resetOnClose,
  Shutdown,
  SocketLevel,
  SocketOption,
  setSocketOption,
  socket,
  socketError,
  socketOption,
  takeDatagramError,
  tryAccept,
  tryConnect,
  tryReceive,
  tryReceiveFrom,
  trySend,
  trySendTo,
  tryShutdown,
} from "./internet.ts";
export { io, ioctl, ior, iow, iowr, tryIoctl } from "./ioctl.ts";
export { canLockRange, Fcntl, lockRange } from "./locks.ts";
export {
  Advice,
  addressOf,
  addSeals,
  MapFlag,
  Mapping,
  type MapRequest,
  MemfdFlag,
  madvise,
  memfdCreate,
  mmap,
  mprotect,
  munmap,
  Protection,
  Seal,
  trimHeap,
  viewMemory,
} from "./memory.ts";
export { Namespace, setns, unshare } from "./namespaces.ts";
export { fillRandom, randomBytes } from "./random.ts";
export {
  getAffinity,
  Prctl,
  prctl,
  processorTimeUs,
  setAffinity,
  setThreadName,
  threadEnded,
  voluntarySwitches,
} from "./scheduling.ts";
export {
  blockedSignals,
  blockSignals,
  consumeSignal,
  gettid,
  interruptOnly,
  SIGRTMIN,
  sendSignal,
  signalSet,
  unblockSignals,
} from "./signals.ts";
export { AddressFamily, decodeEndpoint, type Endpoint, encodeEndpoint, encodeUnixPath } from "./socket-address.ts";
export { type Received, receiveDescriptors, SocketType, sendDescriptors, socketpair } from "./sockets.ts";
export { PseudoTerminal } from "./terminal.ts";
