/** Network devices that are made and deleted by route messages: rtnetlink(7), linux/if_link.h. */

import { AddressFamily, close, Errno, SocketType, SystemError, socket, tryReceive, trySend } from "@lodge/linux";
import { NetworkError } from "../errors.ts";

/** linux/rtnetlink.h and linux/netlink.h. */
const MessageType = { ERROR: 2, NEWLINK: 16, DELLINK: 17 } as const;
const Flag = { REQUEST: 1, ACK: 4, EXCL: 0x200, CREATE: 0x400 } as const;
/** struct nlmsghdr: u32 length, u16 type, u16 flags, u32 sequence, u32 sender. */
const Header = { LENGTH: 0, TYPE: 4, FLAGS: 6, SIZE: 16 } as const;
/** struct ifinfomsg: u8 family, u8, u16 type, i32 index, u32 flags, u32 change. */
const Interface = { INDEX: 4, SIZE: 16 } as const;
const Attribute = { ADDRESS: 1, NAME: 3, LINK: 5, INFO: 18 } as const;
const Info = { KIND: 1, DATA: 2 } as const;
const MACVLAN_MODE = 1;
const NETLINK_ROUTE = 0;

/** linux/if_link.h: what devices on the same lower device have to do with each other. */
export const MacvtapMode = { private: 1, vepa: 2, bridge: 4, passthru: 8 } as const;
export type MacvtapMode = keyof typeof MacvtapMode;
export const MACVTAP_MODES = Object.keys(MacvtapMode) as readonly MacvtapMode[];

export function isMacvtapMode(text: string): text is MacvtapMode {
  return Object.hasOwn(MacvtapMode, text);
}

/** Makes a macvtap on the device with the index `lower`. Throws a `NetworkError`. */
export function makeMacvtap(name: string, lower: number, mode: MacvtapMode, mac: Uint8Array, what: string): void {
  const data = attribute(MACVLAN_MODE, u32(MacvtapMode[mode]));
  const info = Buffer.concat([attribute(Info.KIND, Buffer.from("macvtap\0")), attribute(Info.DATA, data)]);
  const result = call(MessageType.NEWLINK, Flag.CREATE | Flag.EXCL, 0, [
    attribute(Attribute.NAME, Buffer.from(`${name}\0`)),
    attribute(Attribute.LINK, u32(lower)),
    attribute(Attribute.ADDRESS, mac),
    attribute(Attribute.INFO, info),
  ]);
  if (result === 0) return;
  const why =
    result === -Errno.EPERM
      ? "no permission to make one; CAP_NET_ADMIN is needed, or one made for this user: tap,ifname=NAME"
      : result === -Errno.ENOTSUP
        ? "this kernel has none (module macvtap)"
        : result === -Errno.EBUSY
          ? "the device is taken: by a bridge, or by another in the mode passthru"
          : result === -Errno.EINVAL
            ? "the device takes none, or has others of another mode"
            : new SystemError(-result, "RTM_NEWLINK", name).message;
  throw new NetworkError("NETWORK_HOST", `${what}: ${why}`);
}

/** Deletes the device with this index; nothing where there is none. */
export function deleteLink(index: number): void {
  call(MessageType.DELLINK, 0, index, []);
}

/** 0, or the negative `errno`. The kernel has answered when a request was sent. */
function call(type: number, flags: number, index: number, attributes: readonly Uint8Array[]): number {
  const message = Buffer.concat([new Uint8Array(Header.SIZE + Interface.SIZE), ...attributes]);
  message.writeUInt32LE(message.length, Header.LENGTH);
  message.writeUInt16LE(type, Header.TYPE);
  message.writeUInt16LE(Flag.REQUEST | Flag.ACK | flags, Header.FLAGS);
  message.writeInt32LE(index, Header.SIZE + Interface.INDEX);
  const fd = socket(AddressFamily.NETLINK, SocketType.DGRAM, NETLINK_ROUTE);
  try {
    const sent = trySend(fd, message);
    if (sent < 0) return sent;
    const answer = Buffer.alloc(8192);
    const length = tryReceive(fd, answer);
    if (length < 0) return length;
    return length >= Header.SIZE + 4 && answer.readUInt16LE(Header.TYPE) === MessageType.ERROR
      ? answer.readInt32LE(Header.SIZE)
      : -Errno.EINVAL;
  } finally {
    close(fd);
  }
}

function u32(value: number): Uint8Array {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

/** struct rtattr: u16 length, u16 type; each begins at a multiple of four. */
function attribute(type: number, value: Uint8Array): Uint8Array {
  const bytes = Buffer.alloc(4 + Math.ceil(value.length / 4) * 4);
  bytes.writeUInt16LE(4 + value.length, 0);
  bytes.writeUInt16LE(type, 2);
  bytes.set(value, 4);
  return bytes;
}
