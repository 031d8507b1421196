/** Network devices of the host, as far as a card has to do with them: netdevice(7), linux/sockios.h. */

import { existsSync, writeFileSync } from "node:fs";
import { AddressFamily, close, Errno, SocketType, SystemError, socket, tryIoctl } from "@lodge/linux";
import { NetworkError } from "../errors.ts";

const Request = {
  SIOCGIFFLAGS: 0x8913,
  SIOCSIFFLAGS: 0x8914,
  SIOCGIFMTU: 0x8921,
  SIOCSIFMTU: 0x8922,
  SIOCGIFINDEX: 0x8933,
  SIOCBRADDIF: 0x89a2,
} as const;
const IFF_UP = 1;

/** struct ifreq: a name of 16 bytes, then what the request is about. */
export const Ifreq = { NAME: 0, NAME_LENGTH: 16, VALUE: 16, SIZE: 40 } as const;

/** One with this name. Throws a `NetworkError` for what no device is called. */
export function interfaceRequest(name: string, what: string): DataView<ArrayBuffer> {
  const bytes = Buffer.from(name);
  if (bytes.length >= Ifreq.NAME_LENGTH || /[\s/]/.test(name)) {
    throw new NetworkError(
      "NETWORK_CONFIG",
      `${what} ${JSON.stringify(name)}: a device's name has up to 15 characters, no blanks or slashes`,
    );
  }
  const request = new Uint8Array(Ifreq.SIZE);
  request.set(bytes, Ifreq.NAME);
  return new DataView(request.buffer);
}

/** The name in a request that the kernel filled. */
export function requestedName(request: DataView<ArrayBuffer>): string {
  const bytes = new Uint8Array(request.buffer, 0, Ifreq.NAME_LENGTH);
  return Buffer.from(bytes.subarray(0, bytes.indexOf(0))).toString();
}

/** The devices of this process's network. */
export class Interfaces implements Disposable {
  readonly #fd = socket(AddressFamily.INET, SocketType.DGRAM);

  /** Its number; undefined where there is none of that name. */
  index(name: string): number | undefined {
    const request = interfaceRequest(name, "device");
    return tryIoctl(this.#fd, Request.SIOCGIFINDEX, request.buffer) < 0
      ? undefined
      : request.getInt32(Ifreq.VALUE, true);
  }

  mtu(name: string): number {
    return this.#call(Request.SIOCGIFMTU, "SIOCGIFMTU", name).getInt32(Ifreq.VALUE, true);
  }

  setMtu(name: string, mtu: number): void {
    this.#call(Request.SIOCSIFMTU, "SIOCSIFMTU", name, (request) => request.setInt32(Ifreq.VALUE, mtu, true));
  }

  setUp(name: string): void {
    const flags = this.#call(Request.SIOCGIFFLAGS, "SIOCGIFFLAGS", name).getUint16(Ifreq.VALUE, true);
    this.#call(Request.SIOCSIFFLAGS, "SIOCSIFFLAGS", name, (request) =>
      request.setUint16(Ifreq.VALUE, flags | IFF_UP, true),
    );
  }

  /** Makes a device a port of a Linux bridge, and both of one MTU, which it returns. {@link checkBridge} comes first. */
  addToBridge(bridge: string, device: string): number {
    const mtu = this.mtu(bridge);
    const request = interfaceRequest(bridge, "bridge");
    request.setInt32(Ifreq.VALUE, this.index(device)!, true);
    // The bridge takes the least MTU of its ports.
    this.setMtu(device, mtu);
    const result = tryIoctl(this.#fd, Request.SIOCBRADDIF, request.buffer);
    if (result < 0) {
      const why =
        result === -Errno.EPERM ? "no permission to add a port; CAP_NET_ADMIN is needed" : describe(result, bridge);
      throw new NetworkError("NETWORK_HOST", `bridge ${bridge}: ${why}`);
    }
    // The host itself is not to be reached through the port: it has no address of IPv6 there.
    const settings = `/proc/sys/net/ipv6/conf/${device}/disable_ipv6`;
    if (existsSync(settings)) writeFileSync(settings, "1");
    this.setUp(device);
    return mtu;
  }

  /** Throws a `NetworkError` for what is no bridge. */
  checkBridge(bridge: string): void {
    const refuse = (why: string): never => {
      throw new NetworkError("NETWORK_CONFIG", `bridge ${bridge}: ${why}`);
    };
    const index = this.index(bridge);
    if (index === undefined) {
      refuse(
        `this host has no device of that name; make one: ip link add ${bridge} type bridge && ip link set ${bridge} up`,
      );
    }
    // Who adds a bridge to itself is told "not permitted to loop", and who has no bridge, "not supported".
    const request = interfaceRequest(bridge, "bridge");
    request.setInt32(Ifreq.VALUE, index!, true);
    const result = tryIoctl(this.#fd, Request.SIOCBRADDIF, request.buffer);
    if (result === -Errno.ENOTSUP) refuse("it is a device, but no bridge; ip link show type bridge says which are");
    if (result === -Errno.EPERM) refuse("no permission to add a port; CAP_NET_ADMIN is needed");
  }

  #call(number: number, name: string, device: string, fill = (_: DataView): void => {}): DataView<ArrayBuffer> {
    const request = interfaceRequest(device, "device");
    fill(request);
    const result = tryIoctl(this.#fd, number, request.buffer);
    if (result < 0) throw new NetworkError("NETWORK_HOST", `device ${device}: ${name}: ${describe(result, device)}`);
    return request;
  }

  [Symbol.dispose](): void {
    close(this.#fd);
  }
}

function describe(result: number, subject: string): string {
  return new SystemError(-result, "ioctl", subject).message;
}
