/** Addresses: four bytes are IPv4's, sixteen IPv6's, six a station's of Ethernet; in the order of the network. */

import { isIPv4, isIPv6 } from "node:net";

/** The bytes of an address as people write it; undefined for what is none. */
export function parseAddress(text: string): Uint8Array | undefined {
  if (isIPv4(text)) return Uint8Array.from(text.split("."), Number);
  if (!isIPv6(text) || text.includes("%")) return undefined;
  // RFC 4291, 2.2: `::` stands for the groups that lack; the last two may be written as IPv4.
  const [head = "", tail] = text.split("::");
  const groups = (part: string) =>
    part === ""
      ? []
      : part.split(":").flatMap((group) => (group.includes(".") ? pairs(group) : [Number.parseInt(group, 16)]));
  const [before, after] = [groups(head), groups(tail ?? "")];
  const all = [...before, ...Array<number>(8 - before.length - after.length).fill(0), ...after];
  return Uint8Array.from(all.flatMap((group) => [group >> 8, group & 0xff]));
}

function pairs(ipv4: string): number[] {
  const [a = 0, b = 0, c = 0, d = 0] = ipv4.split(".").map(Number);
  return [(a << 8) | b, (c << 8) | d];
}

/** As people write it; IPv6 with its longest run of zeros shortened (RFC 5952). */
export function formatAddress(address: Uint8Array): string {
  if (address.length === 4) return address.join(".");
  const groups = Array.from({ length: 8 }, (_, at) => ((address[at * 2]! << 8) | address[at * 2 + 1]!).toString(16));
  const text = groups.join(":");
  const runs = text.match(/(?<![0-9a-f])0(:0)+(?![0-9a-f])/g) ?? [];
  const longest = runs.reduce((best, run) => (run.length > best.length ? run : best), "");
  if (longest === "") return text;
  const at = text.search(new RegExp(`(?<![0-9a-f])${longest}(?![0-9a-f])`));
  return `${text.slice(0, at).replace(/:$/, "")}::${text.slice(at + longest.length).replace(/^:/, "")}`;
}

/** Of Ethernet: `52:54:00:12:34:56`. */
export function formatMac(mac: Uint8Array): string {
  return Array.from(mac, (byte) => byte.toString(16).padStart(2, "0")).join(":");
}

/** The bytes of one; undefined for what is none, or a group's. */
export function parseMac(text: string): Uint8Array | undefined {
  if (!/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(text)) return undefined;
  const address = Uint8Array.from(text.split(":"), (byte) => Number.parseInt(byte, 16));
  return address[0]! & 1 ? undefined : address;
}

/** What a map finds an address by. */
export function addressKey(address: Uint8Array): string {
  let key = "";
  for (let at = 0; at < address.length; at += 2) key += String.fromCharCode((address[at]! << 8) | address[at + 1]!);
  return key;
}

export function addressOfKey(key: string): Uint8Array {
  return Uint8Array.from(Array.from(key, (pair) => pair.charCodeAt(0)).flatMap((pair) => [pair >> 8, pair & 0xff]));
}

/** What a map finds a flow by. */
export function flowKey(one: Uint8Array, onePort: number, other: Uint8Array, otherPort: number): string {
  return addressKey(one) + addressKey(other) + String.fromCharCode(onePort, otherPort);
}

export function sameAddress(one: Uint8Array, other: Uint8Array): boolean {
  if (one.length !== other.length) return false;
  for (let at = 0; at < one.length; at++) if (one[at] !== other[at]) return false;
  return true;
}

/** The address of who has none yet: all zeros, in every family. */
export function isUnspecified(address: Uint8Array): boolean {
  for (let at = 0; at < address.length; at++) if (address[at] !== 0) return false;
  return true;
}

/** A network: all addresses that begin with the same bits. */
export interface Prefix {
  readonly address: Uint8Array;
  readonly bits: number;
}

/** `10.0.2.0/24`; undefined for what is none. */
export function parsePrefix(text: string): Prefix | undefined {
  const found = /^([^/]+)\/(\d{1,3})$/.exec(text);
  const address = parseAddress(found?.[1] ?? "");
  const bits = Number(found?.[2]);
  if (address === undefined || bits > address.length * 8) return undefined;
  return { address: masked(address, bits), bits };
}

export function isWithin(address: Uint8Array, { address: network, bits }: Prefix): boolean {
  if (address.length !== network.length) return false;
  const whole = bits >> 3;
  for (let at = 0; at < whole; at++) if (address[at] !== network[at]) return false;
  return (bits & 7) === 0 || ((address[whole]! ^ network[whole]!) & (0xff00 >> (bits & 7)) & 0xff) === 0;
}

function masked(address: Uint8Array, bits: number): Uint8Array {
  return address.map((byte, at) => byte & (0xff00 >> Math.min(Math.max(bits - at * 8, 0), 8)));
}

/** The address that has `offset` added in its last two bytes. */
export function hostOf({ address }: Prefix, offset: number): Uint8Array {
  const host = address.slice();
  const last = host.length - 2;
  const value = ((host[last]! << 8) | host[last + 1]!) + offset;
  host[last] = value >> 8;
  host[last + 1] = value;
  return host;
}

/** A set of networks written as text. */
export function prefixes(...texts: readonly string[]): readonly Prefix[] {
  return texts.map((text) => parsePrefix(text)!);
}
