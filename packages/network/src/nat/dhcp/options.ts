/** What guests are told of their network, in the forms of DHCP. */

import { encodeName } from "../dns/message.ts";

/** Names one after the other, as option 119 (RFC 3397), RDNSS's search list (RFC 8106) and DHCPv6 (RFC 8415, 10) have them. */
export function encodeNames(names: readonly string[]): Uint8Array {
  return Uint8Array.from(names.flatMap((name) => [...(encodeName(name) ?? [])]));
}

/** A label that a station says is its name; undefined for what could be none. */
export function hostLabel(bytes: Uint8Array): string | undefined {
  const label = Buffer.from(bytes).toString("latin1").toLowerCase().split(".")[0]!;
  return /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(label) ? label : undefined;
}
