/** Network devices of the host, as far as a card has to do with them: netdevice(7), linux/sockios.h. */

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { AddressFamily, close, Errno, encodeEndpoint, SocketType, SystemError, socket, tryIoctl } from "@lodge/linux";
import { NetworkError } from "../errors.ts";

const Request = {
  SIOCGIFFLAGS: 0x8913,
  SIOCSIFFLAGS: 0x8914,
  SIOCGIFMTU: 0x8921,
  SIOCSIFMTU: 0x8922,
  SIOCGIFINDEX: 0x8933,
  SIOCSIFADDR: 0x8916,
  SIOCSIFNETMASK: 0x891c,
  SIOCSIFHWADDR: 0x8924,
  SIOCBRADDBR: 0x89a0,
  SIOCBRDELBR: 0x89a1,
  SIOCBRADDIF: 0x89a2,
} as const;
const IFF_UP = 1;
/** linux/if_arp.h, of an address in a struct sockaddr. */
const ARPHRD_ETHER = 1;

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

  /** Makes a bridge, or takes one over. Throws a `NetworkError`. */
  makeBridge(name: string, what: string): void {
    const result = tryIoctl(this.#fd, Request.SIOCBRADDBR, Buffer.from(`${name}\0`));
    if (result === -Errno.EEXIST) this.checkBridge(name);
    else if (result < 0) {
      const why =
        result === -Errno.EPERM
          ? "no permission to make a bridge; CAP_NET_ADMIN is needed, or a network without one"
          : describe(result, name);
      throw new NetworkError("NETWORK_HOST", `${what}: ${why}`);
    }
  }

  /** Nothing where there is none. */
  removeBridge(name: string): void {
    if (this.index(name) === undefined) return;
    const flags = this.#call(Request.SIOCGIFFLAGS, "SIOCGIFFLAGS", name).getUint16(Ifreq.VALUE, true);
    this.#call(Request.SIOCSIFFLAGS, "SIOCSIFFLAGS", name, (request) =>
      request.setUint16(Ifreq.VALUE, flags & ~IFF_UP, true),
    );
    tryIoctl(this.#fd, Request.SIOCBRDELBR, Buffer.from(`${name}\0`));
  }

  setMac(name: string, mac: Uint8Array): void {
    this.#call(Request.SIOCSIFHWADDR, "SIOCSIFHWADDR", name, (request) => {
      request.setUint16(Ifreq.VALUE, ARPHRD_ETHER, true);
      new Uint8Array(request.buffer).set(mac, Ifreq.VALUE + 2);
    });
  }

  /** Its one address of IPv4. */
  setAddress(name: string, address: Uint8Array, bits: number): void {
    const mask = new Uint8Array(4);
    new DataView(mask.buffer).setUint32(0, (0xffffffff << (32 - bits)) >>> 0);
    for (const [number, call, bytes] of [
      [Request.SIOCSIFADDR, "SIOCSIFADDR", address],
      [Request.SIOCSIFNETMASK, "SIOCSIFNETMASK", mask],
    ] as const) {
      this.#call(number, call, name, (request) => {
        new Uint8Array(request.buffer).set(encodeEndpoint({ address: bytes, port: 0 }), Ifreq.VALUE);
      });
    }
  }

  /** One more address of IPv6, or the one that it has; nobody is asked whether it is free. */
  addAddress6(name: string, address: Uint8Array, bits: number): void {
    writeFileSync(`/proc/sys/net/ipv6/conf/${name}/accept_dad`, "0");
    // struct in6_ifreq.
    const request = new DataView(new ArrayBuffer(24));
    new Uint8Array(request.buffer).set(address);
    request.setUint32(16, bits, true);
    request.setInt32(20, this.index(name) ?? 0, true);
    const fd = socket(AddressFamily.INET6, SocketType.DGRAM);
    const result = tryIoctl(fd, Request.SIOCSIFADDR, request.buffer);
    close(fd);
    if (result < 0 && result !== -Errno.EEXIST) {
      throw new NetworkError("NETWORK_HOST", `device ${name}: an address of IPv6: ${describe(result, name)}`);
    }
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

/** What went through a device of this process's network; its receiving is the sending of who is behind it. */
export function deviceCounters(name: string) {
  // Not /sys, which shows the network of who mounted it. Its columns: proc_pid_net(5).
  const line = readFileSync("/proc/net/dev", "utf8").match(new RegExp(`^ *${name}:(.*)$`, "m"))?.[1];
  const columns = line?.trim().split(/\s+/).map(Number) ?? [];
  const [bytesIn = 0, framesIn = 0] = columns;
  const [bytesOut = 0, framesOut = 0, , lost = 0] = columns.slice(8);
  return { framesIn, bytesIn, framesOut, bytesOut, lost };
}

function describe(result: number, subject: string): string {
  return new SystemError(-result, "ioctl", subject).message;
}
