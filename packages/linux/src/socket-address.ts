/** Socket addresses: struct sockaddr_in, sockaddr_in6 and sockaddr_un. */

/** linux/socket.h. */
export const AddressFamily = { UNIX: 1, INET: 2, INET6: 10, NETLINK: 16 } as const;

/** An address of the internet with a port. Four bytes are IPv4's, sixteen IPv6's, in the order of the network. */
export interface Endpoint {
  readonly address: Uint8Array;
  readonly port: number;
  /** The interface's index, for link-local addresses of IPv6. */
  readonly scope?: number;
}

/** sockaddr_in: u16 family, then big-endian u16 port, address. sockaddr_in6 has u32 flow information before the address. */
export const Sockaddr = { FAMILY: 0, PORT: 2, ADDRESS4: 4, SIZE4: 16, ADDRESS6: 8, SCOPE6: 24, SIZE6: 28 } as const;
/** sockaddr_un: u16 family, then the path, ended by a NUL. */
export const SockaddrUnix = { PATH: 2, SIZE: 110 } as const;

/** Room for any of them. */
export const SOCKADDR_ROOM = 112;

export function encodeEndpoint({ address, port, scope = 0 }: Endpoint): Uint8Array {
  const six = address.length === 16;
  if (!six && address.length !== 4)
    throw new RangeError(`an address of ${address.length} bytes is none of IPv4 or IPv6`);
  const bytes = new Uint8Array(six ? Sockaddr.SIZE6 : Sockaddr.SIZE4);
  const view = new DataView(bytes.buffer);
  view.setUint16(Sockaddr.FAMILY, six ? AddressFamily.INET6 : AddressFamily.INET, true);
  view.setUint16(Sockaddr.PORT, port);
  bytes.set(address, six ? Sockaddr.ADDRESS6 : Sockaddr.ADDRESS4);
  if (six) view.setUint32(Sockaddr.SCOPE6, scope, true);
  return bytes;
}

/** A Unix socket's address by its path; a path that begins with `@` is an abstract name. */
export function encodeUnixPath(path: string): Uint8Array {
  const name = Buffer.from(path);
  if (name.length === 0 || name.length > SockaddrUnix.SIZE - SockaddrUnix.PATH - 1 || name.includes(0)) {
    throw new RangeError(`${JSON.stringify(path)} is no path of a Unix socket: 1 to 107 bytes, without NUL`);
  }
  const abstract = name[0] === 0x40;
  const bytes = new Uint8Array(SockaddrUnix.PATH + name.length + (abstract ? 0 : 1));
  new DataView(bytes.buffer).setUint16(0, AddressFamily.UNIX, true);
  bytes.set(name, SockaddrUnix.PATH);
  if (abstract) bytes[SockaddrUnix.PATH] = 0;
  return bytes;
}

/** The endpoint in what the kernel filled; undefined for another family. */
export function decodeEndpoint(bytes: Uint8Array, at = 0): Endpoint | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, bytes.length - at);
  const family = view.getUint16(Sockaddr.FAMILY, true);
  const port = view.getUint16(Sockaddr.PORT);
  const part = (from: number, length: number) => bytes.slice(at + from, at + from + length);
  if (family === AddressFamily.INET) return { address: part(Sockaddr.ADDRESS4, 4), port };
  if (family !== AddressFamily.INET6) return undefined;
  const scope = view.getUint32(Sockaddr.SCOPE6, true);
  return { address: part(Sockaddr.ADDRESS6, 16), port, ...(scope !== 0 && { scope }) };
}
