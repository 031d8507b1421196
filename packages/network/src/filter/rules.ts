/** What a guest may be kept from, by the names that libvirt's nwfilter has for it. */

import { NetworkError } from "../errors.ts";

export const RULES = [
  /** A frame's source is the card's address. */
  "no-mac-spoofing",
  /** A packet's source is an address of the guest's, of IPv4 and IPv6; nor does it say that it has another's (NDP). */
  "no-ip-spoofing",
  /** The same of ARP. */
  "no-arp-spoofing",
  /** No answers of DHCP servers, no advertisements of routers. */
  "no-rogue-servers",
  /** Nothing but IPv4, IPv6 and ARP. */
  "no-other-l2-traffic",
] as const;
export type Rule = (typeof RULES)[number];

/** All of them. */
export const CLEAN_TRAFFIC = "clean-traffic";
export const NO_FILTER = "none";

/** Reads `clean-traffic`, `none`, or rules with colons between. */
export function parseFilter(text: string): readonly Rule[] {
  if (text === CLEAN_TRAFFIC) return RULES;
  if (text === NO_FILTER) return [];
  return text.split(":").map((name) => {
    const rule = RULES.find((one) => one === name);
    if (rule !== undefined) return rule;
    throw new NetworkError(
      "NETWORK_CONFIG",
      `filter ${text}: there is ${CLEAN_TRAFFIC}, ${NO_FILTER}, and ${RULES.join(", ")}, with colons between`,
    );
  });
}
