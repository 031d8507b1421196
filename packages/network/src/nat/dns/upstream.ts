/** The host's own resolvers (resolv.conf(5)), and questions to them: by UDP, and by TCP where an answer was too long or none came. */

import { readFileSync } from "node:fs";
import { connect } from "node:net";
import { type Endpoint, randomBytes, SystemError } from "@lodge/linux";
import type { Clock } from "../../clock.ts";
import { DatagramSocket } from "../../host/datagram-socket.ts";
import type { Poller } from "../../host/poller.ts";
import { formatAddress, parseAddress } from "../../packet/address.ts";
import { putU16, u16 } from "../../packet/ethernet.ts";
import { answers, isTruncated, type Question } from "./message.ts";

const RESOLV_CONF = "/etc/resolv.conf";
/** As resolv.conf(5) has them. */
const MOST_SERVERS = 3;
const TRY_MS = 3000;
const TRIES = 2;
const TCP_MS = 10_000;
const ANY = { 4: new Uint8Array(4), 16: new Uint8Array(16) } as const;

export interface Resolvers {
  readonly servers: readonly Endpoint[];
  readonly search: readonly string[];
}

/** What the host's file says now. */
export function hostResolvers(path = RESOLV_CONF): Resolvers {
  let text = "";
  try {
    text = readFileSync(path, "utf8");
  } catch {
    // Without the file, resolv.conf(5) has it, the server is on this host.
  }
  const servers: Endpoint[] = [];
  let search: string[] = [];
  for (const line of text.split("\n")) {
    const [word, ...rest] = line.trim().split(/\s+/);
    if (word === "search" || word === "domain") search = rest;
    if (word !== "nameserver" || servers.length === MOST_SERVERS) continue;
    const address = parseAddress(rest[0] ?? "");
    if (address !== undefined) servers.push({ address, port: 53 });
  }
  if (servers.length === 0) servers.push({ address: Uint8Array.of(127, 0, 0, 1), port: 53 });
  return { servers, search };
}

export class Upstream {
  readonly #poller: Poller;
  readonly #clock: Clock;
  readonly #resolvers: () => Resolvers;

  constructor(poller: Poller, clock: Clock, resolvers: () => Resolvers) {
    this.#poller = poller;
    this.#clock = clock;
    this.#resolvers = resolvers;
  }

  /** The answer of the first server that has one; undefined if none has. `long`: it may be longer than UDP carries. */
  async ask(
    query: Uint8Array,
    question: Question,
    long: boolean,
    signal: AbortSignal,
  ): Promise<Uint8Array | undefined> {
    const { servers } = this.#resolvers();
    for (let tries = 0; tries < TRIES; tries++) {
      for (const server of servers) {
        if (signal.aborted) return undefined;
        const reply = await this.#askByUdp(query, question, server, signal);
        if (reply === undefined) continue;
        if (!isTruncated(reply) || !long) return reply;
        return (await this.#askByTcp(query, question, server, signal)) ?? reply;
      }
    }
    for (const server of servers) {
      if (signal.aborted) return undefined;
      const reply = await this.#askByTcp(query, question, server, signal);
      if (reply !== undefined) return reply;
    }
    return undefined;
  }

  /** From a port and with a number of its own each time: both have to be guessed by who would answer in its place. */
  #askByUdp(
    query: Uint8Array,
    question: Question,
    server: Endpoint,
    signal: AbortSignal,
  ): Promise<Uint8Array | undefined> {
    const { promise, resolve } = Promise.withResolvers<Uint8Array | undefined>();
    const id = randomBytes(2).readUInt16LE();
    const sent = query.slice();
    putU16(sent, 0, id);
    const key = formatAddress(server.address);
    using undo = new DisposableStack();
    try {
      const socket = undo.use(
        new DatagramSocket({ address: ANY[server.address.length as 4 | 16], port: 0 }, this.#poller, {
          received: (data, from) => {
            const isServer = from.port === server.port && formatAddress(from.address) === key;
            if (!isServer || !answers(data, id, query, question)) return;
            const reply = data.slice();
            putU16(reply, 0, question.id);
            resolve(reply);
          },
          failed: () => resolve(undefined),
        }),
      );
      if (socket.send(sent, server) < 0) return Promise.resolve(undefined);
    } catch (error) {
      if (error instanceof SystemError) return Promise.resolve(undefined);
      throw error;
    }
    undo.use(this.#clock.after(TRY_MS, () => resolve(undefined)));
    const abort = () => resolve(undefined);
    signal.addEventListener("abort", abort, { once: true });
    undo.defer(() => signal.removeEventListener("abort", abort));
    const whenDone = undo.move();
    return promise.finally(() => whenDone[Symbol.dispose]());
  }

  #askByTcp(
    query: Uint8Array,
    question: Question,
    server: Endpoint,
    signal: AbortSignal,
  ): Promise<Uint8Array | undefined> {
    const { promise, resolve } = Promise.withResolvers<Uint8Array | undefined>();
    const socket = connect({ host: formatAddress(server.address), port: server.port });
    const give = (reply?: Uint8Array) => {
      resolve(reply);
      socket.destroy();
    };
    const timer = this.#clock.after(TCP_MS, () => give());
    const abort = () => give();
    signal.addEventListener("abort", abort, { once: true });
    const length = Buffer.alloc(2);
    length.writeUInt16BE(query.length);
    socket.write(Buffer.concat([length, query]));
    let got = Buffer.alloc(0);
    socket.on("data", (data: Buffer) => {
      got = Buffer.concat([got, data]);
      if (got.length < 2 || got.length < 2 + u16(got, 0)) return;
      const reply = Uint8Array.from(got.subarray(2, 2 + u16(got, 0)));
      give(answers(reply, question.id, query, question) ? reply : undefined);
    });
    socket.once("error", () => give());
    socket.once("close", () => give());
    return promise.finally(() => {
      timer[Symbol.dispose]();
      signal.removeEventListener("abort", abort);
    });
  }
}
