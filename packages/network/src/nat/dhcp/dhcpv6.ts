/** Addresses for the guests by DHCPv6 (RFC 8415). */

import { sameAddress } from "../../packet/address.ts";
import { putU16, putU32, u16 } from "../../packet/ethernet.ts";
import type { Addresses } from "../link.ts";
import type { Lease, Leases } from "./leases.ts";
import { encodeNames } from "./options.ts";

const Type = {
  SOLICIT: 1,
  ADVERTISE: 2,
  REQUEST: 3,
  CONFIRM: 4,
  RENEW: 5,
  REBIND: 6,
  REPLY: 7,
  RELEASE: 8,
  DECLINE: 9,
  INFORMATION: 11,
} as const;
const Option = {
  CLIENT_ID: 1,
  SERVER_ID: 2,
  IA_NA: 3,
  ADDRESS: 5,
  STATUS: 13,
  RAPID_COMMIT: 14,
  NAME_SERVERS: 23,
  DOMAINS: 24,
} as const;
const Status = { OK: 0, NO_BINDING: 3, NOT_ON_LINK: 4 } as const;

const LIFE_S = 86400;
/** A DUID is at most 130 bytes (RFC 8415, 11.1). */
const LONGEST_ID = 130;

interface Reply {
  readonly type: number;
  readonly options: number[];
}

export class Dhcpv6Server {
  readonly #addresses: Addresses;
  readonly #leases: Leases;
  readonly #search: () => readonly string[];
  /** Ours, made of the card's number (11.4). */
  readonly #id: Uint8Array;

  constructor(addresses: Addresses, leases: Leases, search: () => readonly string[]) {
    this.#addresses = addresses;
    this.#leases = leases;
    this.#search = search;
    this.#id = Uint8Array.of(0, 3, 0, 1, ...addresses.mac);
  }

  /** Answers a message of the station with this card; undefined where no answer is due. */
  receive(message: Uint8Array, mac: Uint8Array): Uint8Array | undefined {
    if (message.length < 4) return undefined;
    const options = parseOptions(message.subarray(4));
    const client = options.get(Option.CLIENT_ID);
    const server = options.get(Option.SERVER_ID);
    const type = message[0]!;
    if (server !== undefined && !sameAddress(server, this.#id)) return undefined;
    if (client === undefined ? type !== Type.INFORMATION : client.length > LONGEST_ID) return undefined;
    // 16.4 to 16.10: these are for one server, which they name.
    const named: readonly number[] = [Type.REQUEST, Type.RENEW, Type.DECLINE, Type.RELEASE];
    if (named.includes(type) && server === undefined) return undefined;
    const reply = this.#reply(type, options, mac);
    if (reply === undefined) return undefined;
    return Uint8Array.from([
      reply.type,
      ...message.subarray(1, 4),
      ...option(Option.SERVER_ID, this.#id),
      ...(client === undefined ? [] : option(Option.CLIENT_ID, client)),
      ...reply.options,
    ]);
  }

  #reply(type: number, options: ReadonlyMap<number, Uint8Array>, mac: Uint8Array): Reply | undefined {
    const association = options.get(Option.IA_NA);
    const isRapid = type === Type.SOLICIT && options.has(Option.RAPID_COMMIT);
    switch (type) {
      case Type.SOLICIT:
      case Type.REQUEST:
      case Type.RENEW:
      case Type.REBIND: {
        const given = association === undefined ? [] : this.#give(association, this.#leases.take6(mac));
        const rapid = isRapid ? option(Option.RAPID_COMMIT, []) : [];
        const answer = type === Type.SOLICIT && !isRapid ? Type.ADVERTISE : Type.REPLY;
        return { type: answer, options: [...given, ...rapid, ...this.#more] };
      }
      case Type.CONFIRM: {
        const wanted = association && addressIn(association);
        if (wanted === undefined) return undefined;
        const isOurs = sameAddress(wanted, this.#leases.find(mac)?.address6 ?? new Uint8Array(0));
        return { type: Type.REPLY, options: status(isOurs ? Status.OK : Status.NOT_ON_LINK) };
      }
      case Type.RELEASE:
      case Type.DECLINE:
        if (type === Type.DECLINE) this.#leases.decline(mac);
        return { type: Type.REPLY, options: status(Status.OK) };
      case Type.INFORMATION:
        return { type: Type.REPLY, options: this.#more };
      default:
        return undefined;
    }
  }

  get #more(): number[] {
    return [
      ...option(Option.NAME_SERVERS, this.#addresses.names6),
      ...option(Option.DOMAINS, encodeNames(this.#search())),
    ];
  }

  /** The association's number, when to renew, and one address. */
  #give(association: Uint8Array, { address6 }: Lease): number[] {
    const address = new Uint8Array(24);
    address.set(address6);
    putU32(address, 16, LIFE_S);
    putU32(address, 20, LIFE_S);
    const data = new Uint8Array(12 + 4 + address.length);
    data.set(association.subarray(0, 4));
    putU32(data, 4, LIFE_S / 2);
    putU32(data, 8, (LIFE_S * 4) / 5);
    data.set(option(Option.ADDRESS, address), 12);
    return option(Option.IA_NA, data);
  }
}

function option(number: number, data: ArrayLike<number>): number[] {
  const head = new Uint8Array(4);
  putU16(head, 0, number);
  putU16(head, 2, data.length);
  return [...head, ...Array.from(data)];
}

function status(code: number): number[] {
  return option(Option.STATUS, [0, code]);
}

/** The first of each number; what is not whole ends them. An association shorter than its own fields is none. */
function parseOptions(bytes: Uint8Array): Map<number, Uint8Array> {
  const options = new Map<number, Uint8Array>();
  for (let at = 0; at + 4 <= bytes.length; ) {
    const [number, length] = [u16(bytes, at), u16(bytes, at + 2)];
    if (at + 4 + length > bytes.length) break;
    const data = bytes.slice(at + 4, at + 4 + length);
    if (!options.has(number) && (number !== Option.IA_NA || length >= 12)) options.set(number, data);
    at += 4 + length;
  }
  return options;
}

function addressIn(association: Uint8Array): Uint8Array | undefined {
  const data = parseOptions(association.subarray(12)).get(Option.ADDRESS);
  return data !== undefined && data.length >= 24 ? data.subarray(0, 16) : undefined;
}
