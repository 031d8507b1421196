/** Descriptors of taps, one for each queue: opened by name, or handed in by who may open them. */

import {
  Descriptor,
  Errno,
  ioctl,
  ior,
  iow,
  OpenFlag,
  open,
  SystemError,
  setNonBlocking,
  tryIoctl,
} from "@lodge/linux";
import { NetworkError } from "../errors.ts";
import { Ifreq, interfaceRequest, requestedName } from "../host/interface.ts";
import { VnetHeader } from "../vnet-header.ts";

const PATH = "/dev/net/tun";
/** linux/if_tun.h. */
const TUNSETIFF = iow(0x54, 202, 4);
const TUNGETIFF = ior(0x54, 210, 4);
const TUNSETVNETHDRSZ = iow(0x54, 216, 4);
const IFF_TAP = 0x2;
const IFF_MULTI_QUEUE = 0x100;
const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;
/** Of a tap; a macvtap has more. */
export const MOST_QUEUES = 256;

export interface OpenTap {
  readonly name: string;
  /** By queue. Whoever has this closes them. */
  readonly files: readonly Descriptor[];
}

/** Opens a tap of this name, and makes it if there is none; an empty name or `tap%d` has the kernel choose. */
export function openTap(name: string, queues = 1): OpenTap {
  return openQueues(`tap ${name}`, name, PATH, queues);
}

/** The queues of the device that is behind a path: of any tap behind /dev/net/tun, of one macvtap behind its own. */
export function openQueues(what: string, name: string, path: string, queues: number): OpenTap {
  using undo = new DisposableStack();
  const files: Descriptor[] = [];
  let attached = name;
  for (let queue = 0; queue < queues; queue++) {
    const file = undo.use(new Descriptor(openPath(what, path)));
    attached = attach(file.fd, attached, queues, what);
    files.push(file);
  }
  undo.move();
  return { name: attached, files };
}

/**
 * Taps that somebody else opened: all of one device, with virtio-net headers and nothing else before their frames. Whoever has
 * what this returns closes them; what is refused stays the caller's.
 */
export function adoptTap(fds: readonly number[]): OpenTap {
  const names = fds.map((fd) => {
    const refuse = (why: string): never => {
      throw new NetworkError("NETWORK_CONFIG", `tap of descriptor ${fd}: ${why}`);
    };
    const request = interfaceRequest("", "tap");
    const result = tryIoctl(fd, TUNGETIFF, request.buffer);
    if (result === -Errno.EBADF) refuse("nothing is open there; it has to be passed on to this process");
    if (result < 0) refuse("it is no tap, or TUNSETIFF did not attach it to a device");
    const flags = request.getUint16(Ifreq.VALUE, true);
    if (!(flags & IFF_TAP) || !(flags & IFF_NO_PI) || !(flags & IFF_VNET_HDR)) {
      refuse("it has to be opened with IFF_TAP, IFF_NO_PI and IFF_VNET_HDR");
    }
    if (fds.length > 1 && !(flags & IFF_MULTI_QUEUE)) refuse("one of several has to be opened with IFF_MULTI_QUEUE");
    return requestedName(request);
  });
  const other = names.find((name) => name !== names[0]);
  if (other !== undefined || new Set(fds).size < fds.length) {
    const why = other === undefined ? "one stands there twice" : `${names[0]} and ${other} are two devices`;
    throw new NetworkError("NETWORK_CONFIG", `tap of descriptors ${fds.join(", ")}: ${why}`);
  }
  for (const fd of fds) {
    setNonBlocking(fd);
    ioctl(fd, TUNSETVNETHDRSZ, Int32Array.of(VnetHeader.LENGTH), "TUNSETVNETHDRSZ");
  }
  return { name: names[0]!, files: fds.map((fd) => new Descriptor(fd)) };
}

function openPath(what: string, path: string): number {
  try {
    return open(path, OpenFlag.RDWR | OpenFlag.NONBLOCK);
  } catch (error) {
    const errno = error instanceof SystemError ? error.errno : 0;
    const why =
      errno === Errno.ENOENT
        ? "there is none (module tun)"
        : errno === Errno.EBUSY
          ? "another program has it"
          : "no permission; its owner may be changed to this user";
    throw new NetworkError("NETWORK_HOST", `${what}: ${path}: ${why}`, { cause: error });
  }
}

/** Attaches the descriptor to the device; returns its name. */
function attach(fd: number, name: string, queues: number, what: string): string {
  const plain = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
  const several = plain | IFF_MULTI_QUEUE;
  const request = interfaceRequest(name, "tap");
  const tried = (flags: number): number => {
    request.setUint16(Ifreq.VALUE, flags, true);
    return tryIoctl(fd, TUNSETIFF, request.buffer);
  };
  let result = tried(queues > 1 ? several : plain);
  // One that was made for several queues has to be told so, also by who wants one.
  if (result === -Errno.EINVAL && queues === 1) result = tried(several);
  if (result < 0) {
    const why =
      result === -Errno.EPERM
        ? "no permission; make it for this user: ip tuntap add NAME mode tap user $USER"
        : result === -Errno.EBUSY
          ? "another program has it"
          : result === -Errno.E2BIG
            ? `it has up to ${MOST_QUEUES} queues, and some may be others'`
            : result === -Errno.EINVAL
              ? queues > 1
                ? "there is a device of that name that is no tap of several queues; ip tuntap add NAME mode tap multi_queue makes one"
                : "there is a device of that name that is no tap"
              : new SystemError(-result, "TUNSETIFF", name).message;
    throw new NetworkError("NETWORK_HOST", `${what}: ${why}`);
  }
  ioctl(fd, TUNSETVNETHDRSZ, Int32Array.of(VnetHeader.LENGTH), "TUNSETVNETHDRSZ");
  return requestedName(request);
}

/** Gives up what was opened. */
export function closeTap({ files }: OpenTap): void {
  for (const file of files) file.close();
}
