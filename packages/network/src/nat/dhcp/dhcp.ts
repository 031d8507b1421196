/** Addresses for the guests by DHCP (RFC 2131, options of RFC 2132). */

import { sameAddress } from "../../packet/address.ts";
import { putU16, putU32, u16, u32 } from "../../packet/ethernet.ts";
import type { Addresses } from "../link.ts";
import type { Lease, Leases } from "./leases.ts";
import { encodeNames, hostLabel } from "./options.ts";

/** Offsets in the message (RFC 2131, 2). */
const Message = {
  OP: 0,
  HTYPE: 1,
  HLEN: 2,
  XID: 4,
  FLAGS: 10,
  CIADDR: 12,
  YIADDR: 16,
  SIADDR: 20,
  GIADDR: 24,
  CHADDR: 28,
  COOKIE: 236,
  OPTIONS: 240,
} as const;
const COOKIE = 0x63825363;
const SMALLEST = 300;

const Option = {
  MASK: 1,
  ROUTER: 3,
  NAME_SERVERS: 6,
  HOST_NAME: 12,
  DOMAIN: 15,
  MTU: 26,
  BROADCAST: 28,
  REQUESTED: 50,
  LEASE: 51,
  TYPE: 53,
  SERVER: 54,
  RENEWAL: 58,
  REBINDING: 59,
  SEARCH: 119,
  END: 255,
} as const;
const Type = { DISCOVER: 1, OFFER: 2, REQUEST: 3, DECLINE: 4, ACK: 5, NAK: 6, RELEASE: 7, INFORM: 8 } as const;

const LEASE_S = 86400;
const BROADCAST = new Uint8Array(4).fill(255);

export interface DhcpOptions {
  readonly addresses: Addresses;
  readonly leases: Leases;
  readonly mtu: number;
  /** Default: the gateway. */
  readonly router?: Uint8Array;
  readonly search: () => readonly string[];
  /** What a station is told that its name is. */
  readonly nameFor: (lease: Lease) => string | undefined;
}

export interface DhcpReply {
  readonly message: Uint8Array;
  /** Whom it goes to: the address that it gives, or everybody. */
  readonly to: Uint8Array;
}

export class DhcpServer {
  readonly #options: DhcpOptions;

  constructor(options: DhcpOptions) {
    this.#options = options;
  }

  /** Answers a message of a station; undefined where none is due. */
  receive(message: Uint8Array): DhcpReply | undefined {
    const isRequest = message.length >= Message.OPTIONS && message[Message.OP] === 1;
    if (!isRequest || message[Message.HTYPE] !== 1 || message[Message.HLEN] !== 6) return undefined;
    if (u32(message, Message.COOKIE) !== COOKIE) return undefined;
    const options = parseOptions(message);
    const mac = message.slice(Message.CHADDR, Message.CHADDR + 6);
    const { leases, addresses } = this.#options;
    const server = options.get(Option.SERVER);
    const isForOther = server !== undefined && !sameAddress(server, addresses.gateway);
    switch (options.get(Option.TYPE)?.[0]) {
      case Type.DISCOVER:
        return this.#give(message, Type.OFFER, this.#lease(mac, options));
      case Type.REQUEST: {
        // It has chosen another server, and what was offered here is free again.
        if (isForOther) return void leases.release(mac);
        const client = message.subarray(Message.CIADDR, Message.CIADDR + 4);
        const wanted = options.get(Option.REQUESTED) ?? client;
        const lease = this.#lease(mac, options);
        return sameAddress(wanted, lease.address) ? this.#give(message, Type.ACK, lease) : this.#refuse(message);
      }
      case Type.INFORM:
        return this.#give(message, Type.ACK, undefined);
      case Type.DECLINE:
        return void leases.decline(mac);
      case Type.RELEASE:
        return void (isForOther || leases.release(mac));
      default:
        return undefined;
    }
  }

  #lease(mac: Uint8Array, options: ReadonlyMap<number, Uint8Array>): Lease {
    const lease = this.#options.leases.take(mac);
    const name = options.get(Option.HOST_NAME);
    if (name !== undefined) lease.name = hostLabel(name) ?? lease.name;
    return lease;
  }

  #refuse(request: Uint8Array): DhcpReply {
    const reply = this.#begin(request, Type.NAK);
    return { message: reply.subarray(0, SMALLEST), to: BROADCAST };
  }

  /** With an address, or for who has one (INFORM) without. */
  #give(request: Uint8Array, type: number, lease: Lease | undefined): DhcpReply {
    const { addresses, mtu, search, nameFor } = this.#options;
    const { network, gateway, names } = addresses;
    const { router = gateway } = this.#options;
    const reply = this.#begin(request, type);
    let at = Message.OPTIONS + 9;
    const put = (option: number, data: ArrayLike<number>) => {
      reply.set([option, data.length], at);
      reply.set(data, at + 2);
      at += 2 + data.length;
    };
    const seconds = (value: number) => {
      const bytes = new Uint8Array(4);
      putU32(bytes, 0, value);
      return bytes;
    };
    const mask = seconds(network.bits === 0 ? 0 : (0xffffffff << (32 - network.bits)) >>> 0);
    if (lease !== undefined) {
      reply.set(lease.address, Message.YIADDR);
      put(Option.LEASE, seconds(LEASE_S));
      put(Option.RENEWAL, seconds(LEASE_S / 2));
      put(Option.REBINDING, seconds((LEASE_S * 7) / 8));
      const name = nameFor(lease);
      if (name !== undefined) put(Option.HOST_NAME, Buffer.from(name));
    }
    put(Option.MASK, mask);
    put(
      Option.BROADCAST,
      network.address.map((byte, index) => byte | (~mask[index]! & 0xff)),
    );
    put(Option.ROUTER, router);
    put(Option.NAME_SERVERS, names);
    put(Option.MTU, [mtu >> 8, mtu & 0xff]);
    const domains = search();
    if (domains[0] !== undefined) put(Option.DOMAIN, Buffer.from(domains[0]));
    const list = encodeNames(domains);
    if (list.length <= 255) put(Option.SEARCH, list);
    reply[at] = Option.END;
    const client = request.slice(Message.CIADDR, Message.CIADDR + 4);
    const hasAddress = client.some((byte) => byte !== 0);
    const wantsBroadcast = (u16(request, Message.FLAGS) & 0x8000) !== 0;
    // Who has no address yet is reached at its card's by the address that it will have; some ask not to be.
    const to = hasAddress ? client : wantsBroadcast || lease === undefined ? BROADCAST : lease.address;
    return { message: reply.subarray(0, Math.max(at + 1, SMALLEST)), to };
  }

  #begin(request: Uint8Array, type: number): Uint8Array {
    const reply = new Uint8Array(1024);
    reply.set(request.subarray(0, Message.CHADDR + 16));
    reply[Message.OP] = 2;
    reply[3] = 0;
    putU16(reply, 8, 0);
    reply.fill(0, Message.YIADDR, Message.GIADDR);
    reply.set(this.#options.addresses.gateway, Message.SIADDR);
    if (type === Type.NAK) reply.fill(0, Message.CIADDR, Message.GIADDR);
    putU32(reply, Message.COOKIE, COOKIE);
    reply.set(
      [Option.TYPE, 1, type, Option.SERVER, 4, ...this.#options.addresses.gateway, Option.END],
      Message.OPTIONS,
    );
    return reply;
  }
}

/** The address that a server's message gives to a card for good; undefined for any other message. */
export function acknowledgedAddress(message: Uint8Array, mac: Uint8Array): Uint8Array | undefined {
  if (message.length < Message.OPTIONS || message[Message.OP] !== 2 || u32(message, Message.COOKIE) !== COOKIE) {
    return undefined;
  }
  if (!sameAddress(message.subarray(Message.CHADDR, Message.CHADDR + 6), mac)) return undefined;
  if (parseOptions(message).get(Option.TYPE)?.[0] !== Type.ACK) return undefined;
  const address = message.slice(Message.YIADDR, Message.YIADDR + 4);
  return address.some((byte) => byte !== 0) ? address : undefined;
}

/** Options by number; what is not whole ends them, what comes again is joined (RFC 3396). */
function parseOptions(message: Uint8Array): Map<number, Uint8Array> {
  const options = new Map<number, Uint8Array>();
  for (let at: number = Message.OPTIONS; at < message.length; ) {
    const option = message[at]!;
    if (option === 0) {
      at += 1;
      continue;
    }
    const length = message[at + 1];
    if (option === Option.END || length === undefined || at + 2 + length > message.length) break;
    const data = message.slice(at + 2, at + 2 + length);
    const before = options.get(option);
    options.set(option, before === undefined ? data : Uint8Array.from([...before, ...data]));
    at += 2 + length;
  }
  return options;
}
