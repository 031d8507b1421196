/** Frames that a guest should not send, one by one; and whose an address is. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { hostOf, parseAddress, parseMac, parsePrefix } from "../packet/address.ts";
import { ArpOperation, arpFrame, BROADCAST, Ethernet, EtherType, putEthernet } from "../packet/ethernet.ts";
import { finishIcmp } from "../packet/icmp.ts";
import { IpProtocol, ipHeaderLength, putIp } from "../packet/ip.ts";
import { udpPayload } from "../packet/udp.ts";
import { AddressBook } from "./addresses.ts";
import { Filter } from "./filter.ts";
import { parseFilter, type Rule } from "./rules.ts";

const MAC = parseMac("52:54:00:00:00:01")!;
const OTHER_MAC = parseMac("52:54:00:00:00:02")!;
const address = (text: string) => parseAddress(text)!;
const [MINE, OTHERS, MINE6, OTHERS6] = ["10.0.2.15", "10.0.2.16", "fd00::15", "fd00::16"].map(address) as [
  Uint8Array,
  Uint8Array,
  Uint8Array,
  Uint8Array,
];
const [NONE, NONE6] = [new Uint8Array(4), new Uint8Array(16)];
const GROUP6 = address("ff02::1");

function filter(rules: string): Filter {
  const own = [MINE, MINE6];
  const mayUse = (asked: Uint8Array) => own.some((one) => Buffer.compare(one, asked) === 0);
  return new Filter({ rules: parseFilter(rules), mac: MAC, mayUse });
}

interface Packet {
  readonly from?: Uint8Array;
  readonly mac?: Uint8Array;
  readonly protocol?: number;
  readonly payload?: Uint8Array;
  /** IPv6's fragment header before the payload. */
  readonly fragment?: { offset: number; more: boolean };
}

function ip({ from = MINE, mac = MAC, protocol = IpProtocol.TCP, payload = new Uint8Array(20), fragment }: Packet) {
  const six = from.length === 16;
  const extra =
    fragment === undefined || !six
      ? []
      : [protocol, 0, fragment.offset >> 8, (fragment.offset & 0xf8) | Number(fragment.more), 0, 0, 0, 1];
  const body = Uint8Array.from([...extra, ...payload]);
  const at = Ethernet.LENGTH + ipHeaderLength(from);
  const frame = new Uint8Array(at + body.length);
  frame.set(body, at);
  putEthernet(frame, BROADCAST, mac, six ? EtherType.IPV6 : EtherType.IPV4);
  const destination = six ? GROUP6 : address("10.0.2.255");
  putIp(frame, Ethernet.LENGTH, {
    source: from,
    destination,
    protocol: extra.length > 0 ? IpProtocol.FRAGMENT : protocol,
    length: body.length,
    hops: 255,
  });
  return frame;
}

function discovery(type: number, target: Uint8Array, mac: Uint8Array, more: Packet = {}): Uint8Array {
  const option = type === 136 ? 2 : 1;
  const head = type === 134 ? Array(12).fill(0) : type === 133 ? [0, 0, 0, 0] : [0, 0, 0, 0, ...target];
  const body = Uint8Array.from([type, 0, 0, 0, ...head, option, 1, ...mac]);
  const from = more.from ?? MINE6;
  return ip({ ...more, from, protocol: IpProtocol.ICMPV6, payload: finishIcmp(body, from, GROUP6) });
}

const arp = (senderMac: Uint8Array, sender: Uint8Array, mac = senderMac) => {
  const frame = arpFrame(
    ArpOperation.REQUEST,
    { mac: senderMac, address: sender },
    { mac: BROADCAST, address: OTHERS },
  );
  frame.set(mac, Ethernet.SOURCE);
  return frame;
};
const udp = (from: Uint8Array, port: number) =>
  ip({
    from,
    protocol: IpProtocol.UDP,
    payload: udpPayload(from, port, GROUP6.subarray(0, from.length), 9, new Uint8Array(4)),
  });
const ethernet = (type: number) => Uint8Array.from([...BROADCAST, ...MAC, type >> 8, type & 0xff, 0, 0]);

/** Each with the one rule that forbids it. */
const FORBIDDEN: [string, Uint8Array, Rule][] = [
  ["another card's address", ip({ mac: OTHER_MAC }), "no-mac-spoofing"],
  ["another's address of IPv4", ip({ from: OTHERS }), "no-ip-spoofing"],
  ["another's address of IPv6", ip({ from: OTHERS6 }), "no-ip-spoofing"],
  ["no address, and TCP", ip({ from: NONE }), "no-ip-spoofing"],
  [
    "no address of IPv6, and an echo",
    ip({ from: NONE6, protocol: IpProtocol.ICMPV6, payload: Uint8Array.of(128, 0, 0, 0, 0, 0, 0, 0) }),
    "no-ip-spoofing",
  ],
  ["it says that it has another's address", discovery(136, OTHERS6, MAC), "no-ip-spoofing"],
  ["it says that another card has its address", discovery(136, MINE6, OTHER_MAC), "no-ip-spoofing"],
  ["it asks for another card", discovery(135, OTHERS6, OTHER_MAC), "no-ip-spoofing"],
  ["it asks for routers for another card", discovery(133, OTHERS6, OTHER_MAC), "no-ip-spoofing"],
  ["discovery in pieces", discovery(136, MINE6, MAC, { fragment: { offset: 0, more: true } }), "no-ip-spoofing"],
  [
    "a beginning without its type",
    ip({
      from: MINE6,
      protocol: IpProtocol.ICMPV6,
      payload: Uint8Array.of(136, 0),
      fragment: { offset: 0, more: true },
    }),
    "no-ip-spoofing",
  ],
  [
    "a piece that hides what it is",
    ip({ from: MINE6, protocol: IpProtocol.DESTINATION, fragment: { offset: 0, more: true } }),
    "no-ip-spoofing",
  ],
  ["ARP with another's address", arp(MAC, OTHERS), "no-arp-spoofing"],
  ["ARP with another card's address", arp(OTHER_MAC, MINE, MAC), "no-arp-spoofing"],
  ["ARP that is not whole", arp(MAC, MINE).subarray(0, 30), "no-arp-spoofing"],
  ["a DHCP server", udp(MINE, 67), "no-rogue-servers"],
  ["a DHCPv6 server", udp(MINE6, 547), "no-rogue-servers"],
  ["a router", discovery(134, MINE6, MAC), "no-rogue-servers"],
  [
    "a redirect",
    ip({ from: MINE6, protocol: IpProtocol.ICMPV6, payload: Uint8Array.from([137, ...Array(39).fill(0)]) }),
    "no-rogue-servers",
  ],
  ["another protocol", ethernet(0x88b5), "no-other-l2-traffic"],
  ["a tag in the tag", ethernet(0x8100), "no-other-l2-traffic"],
  ["a length instead of a type", ethernet(100), "no-other-l2-traffic"],
];

for (const [what, frame, rule] of FORBIDDEN) {
  test(`forbidden by ${rule} alone: ${what}`, () => {
    assert.equal(filter("clean-traffic").accepts(frame), false);
    assert.equal(filter(rule).accepts(frame), false);
    assert.equal(filter("none").accepts(frame), true);
  });
}

test("what an honest guest sends goes through", () => {
  const all = filter("clean-traffic");
  const honest: Record<string, Uint8Array> = {
    tcp: ip({}),
    tcp6: ip({ from: MINE6 }),
    pieces: ip({ from: MINE6, protocol: IpProtocol.UDP, fragment: { offset: 0, more: true } }),
    "a later piece": ip({ from: MINE6, protocol: IpProtocol.ICMPV6, fragment: { offset: 1232, more: false } }),
    dhcp: udp(NONE, 68),
    "an ARP request": arp(MAC, MINE),
    "an ARP probe": arp(MAC, NONE),
    "a solicitation": discovery(135, OTHERS6, MAC),
    "duplicate address detection": ip({
      from: NONE6,
      protocol: IpProtocol.ICMPV6,
      payload: Uint8Array.from([135, 0, 0, 0, 0, 0, 0, 0, ...OTHERS6]),
    }),
    "an advertisement": discovery(136, MINE6, MAC),
    "a question for routers": discovery(133, MINE6, MAC),
    "groups before there is an address": ip({
      from: NONE6,
      protocol: IpProtocol.ICMPV6,
      payload: Uint8Array.from([143, ...Array(7).fill(0)]),
    }),
    rarp: ethernet(0x8035),
  };
  for (const [what, frame] of Object.entries(honest)) assert.equal(all.accepts(frame), true, what);
});

test("no frame, however it was bent, breaks the filter", () => {
  const all = filter("clean-traffic");
  const frames = FORBIDDEN.map(([, frame]) => frame);
  let state = 1;
  const random = (below: number) => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    return (state >>> 8) % below;
  };
  for (let round = 0; round < 20_000; round++) {
    const bent = frames[random(frames.length)]!.slice();
    for (let change = 0; change < 3; change++) bent[random(bent.length)] = random(256);
    const frame = bent.subarray(0, random(bent.length + 1));
    // Whatever else it is, it is from this card.
    if (all.accepts(frame)) assert.deepEqual(frame.subarray(6, 12), MAC);
  }
});

test("addresses are of those that DHCP gave them to, or of the first; some are nobody's", () => {
  let lease: string | undefined;
  const network = parsePrefix("10.0.2.0/24")!;
  const gateway = hostOf(network, 2);
  const book = new AddressBook<string>({
    reserved: [gateway],
    networks: [network],
    leasedTo: (asked) => (Buffer.compare(asked, OTHERS) === 0 ? lease : undefined),
  });
  assert.equal(book.mayUse("a", MINE), true);
  assert.equal(book.mayUse("b", MINE), false);
  for (const nobodys of [
    gateway,
    "127.0.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "192.0.2.1",
    "ff02::1",
    "::1",
    "fd00::1",
  ]) {
    assert.equal(book.mayUse("a", typeof nobodys === "string" ? address(nobodys) : nobodys), false, String(nobodys));
  }
  assert.equal(book.mayUse("a", address("fe80::1")), true);
  assert.equal(book.mayUse("b", address("fe80::1")), false);
  // DHCP's word counts more than who was first.
  assert.equal(book.mayUse("a", OTHERS), true);
  lease = "b";
  assert.equal(book.mayUse("a", OTHERS), false);
  assert.equal(book.mayUse("b", OTHERS), true);
  book.release("a");
  assert.equal(book.mayUse("b", MINE), true);
  assert.equal(book.isClaimed(MINE), true);
  // One that takes many lets go of those that it used long ago.
  for (let number = 20; number < 60; number++) assert.equal(book.mayUse("c", hostOf(network, number)), true);
  assert.equal(book.mayUse("a", hostOf(network, 20)), true);
  assert.equal(book.mayUse("a", hostOf(network, 59)), false);
});

test("rules that there are none of are refused", () => {
  assert.throws(() => parseFilter("no-arp-spoofing:no-fun"), {
    code: "NETWORK_CONFIG",
    message: /there is clean-traffic, none/,
  });
});
