/** The guests' name server: names of this network are answered here, all others by the host's resolvers. */

import { Socket } from "node:net";
import { socketpair } from "@lodge/linux";
import type { Clock } from "../../clock.ts";
import type { FarEvents, FarSide } from "../../host/far-side.ts";
import type { Poller } from "../../host/poller.ts";
import { HostSocket } from "../../host/tcp-socket.ts";
import { u16 } from "../../packet/ethernet.ts";
import {
  answer,
  answerRoom,
  encodeName,
  formatError,
  parseQuery,
  type Question,
  RecordType,
  ResponseCode,
  truncate,
} from "./message.ts";
import { type Resolvers, Upstream } from "./upstream.ts";

/** Reserved for private use, so nobody else answers for it. */
export const DOMAIN = "lodge.internal";
/** Questions that are being asked at the same time; more are lost. */
const MOST_ASKED = 128;
/** Of one TCP connection, before it is read on. */
const MOST_PIPELINED = 16;

export interface NameServerOptions {
  readonly poller: Poller;
  readonly clock: Clock;
  readonly resolvers: () => Resolvers;
  /** The addresses of a name below {@link DOMAIN}; undefined where there is no such name. */
  readonly lookUp: (name: string) => readonly Uint8Array[] | undefined;
  /** The name of an address of this network. */
  readonly nameOf: (reverse: string) => string | undefined;
  /** Nobody outside is asked. */
  readonly restrict: boolean;
}

export class NameServer implements Disposable {
  readonly #options: NameServerOptions;
  readonly #upstream: Upstream;
  readonly #end = new AbortController();
  readonly #sockets = new Set<Socket>();
  #asked = 0;

  constructor(options: NameServerOptions) {
    this.#options = options;
    this.#upstream = new Upstream(options.poller, options.clock, options.resolvers);
  }

  /** Domains that are tried for short names. */
  get search(): readonly string[] {
    return [DOMAIN, ...this.#options.resolvers().search].filter((name) => encodeName(name) !== undefined).slice(0, 6);
  }

  /** Answers a query that came by UDP. The query is read before this returns. */
  receive(query: Uint8Array, reply: (message: Uint8Array) => void): void {
    const copy = query.slice();
    void this.#answer(copy, false).then((message) => {
      if (message === undefined || this.#end.signal.aborted) return;
      const question = parseQuery(copy);
      const isLong = question !== undefined && message.length > answerRoom(copy, question);
      reply(isLong ? truncate(message, question) : message);
    });
  }

  async #answer(query: Uint8Array, byTcp: boolean): Promise<Uint8Array | undefined> {
    const question = parseQuery(query);
    if (question === undefined) return formatError(query);
    const local = this.#answerHere(query, question);
    if (local !== undefined) return local;
    if (this.#asked >= MOST_ASKED) return byTcp ? answer(query, question, ResponseCode.FAILED) : undefined;
    this.#asked += 1;
    try {
      const reply = await this.#upstream.ask(query, question, byTcp, this.#end.signal);
      return reply ?? answer(query, question, ResponseCode.FAILED);
    } finally {
      this.#asked -= 1;
    }
  }

  #answerHere(query: Uint8Array, question: Question): Uint8Array | undefined {
    const { name, type } = question;
    const { lookUp, nameOf, restrict } = this.#options;
    if (name === DOMAIN || name.endsWith(`.${DOMAIN}`)) {
      const addresses = name === DOMAIN ? [] : lookUp(name.slice(0, -DOMAIN.length - 1));
      if (addresses === undefined) return answer(query, question, ResponseCode.NO_NAME);
      const length = type === RecordType.A ? 4 : type === RecordType.AAAA ? 16 : 0;
      return answer(
        query,
        question,
        ResponseCode.OK,
        addresses.filter((address) => address.length === length),
      );
    }
    const known = name.endsWith(".arpa") ? nameOf(name) : undefined;
    if (known !== undefined) {
      const target = encodeName(`${known}.${DOMAIN}`);
      return answer(query, question, ResponseCode.OK, type === RecordType.PTR && target ? [target] : []);
    }
    return restrict ? answer(query, question, ResponseCode.REFUSED) : undefined;
  }

  /** Answers queries that come by TCP: the stream that this returns is the guest's connection's far side (RFC 7766). */
  accept(events: FarEvents): FarSide {
    const [theirs, ours] = socketpair();
    const socket = new Socket({ fd: ours, allowHalfOpen: true });
    this.#sockets.add(socket);
    socket.once("close", () => this.#sockets.delete(socket));
    socket.on("error", () => socket.destroy());
    let buffered = Buffer.alloc(0);
    let asked = 0;
    let ended = false;
    const serve = () => {
      while (asked < MOST_PIPELINED && buffered.length >= 2 && buffered.length >= 2 + u16(buffered, 0)) {
        const query = Uint8Array.from(buffered.subarray(2, 2 + u16(buffered, 0)));
        buffered = buffered.subarray(2 + query.length);
        asked += 1;
        void this.#answer(query, true).then((message) => {
          asked -= 1;
          if (message === undefined || socket.destroyed) return socket.destroy();
          socket.write(Buffer.concat([Uint8Array.of(message.length >> 8, message.length & 0xff), message]));
          serve();
          return undefined;
        });
      }
      if (asked < MOST_PIPELINED) socket.resume();
      else socket.pause();
      if (ended && asked === 0) socket.end();
    };
    socket.on("data", (data: Buffer) => {
      buffered = Buffer.concat([buffered, data]);
      serve();
    });
    socket.once("end", () => {
      ended = true;
      serve();
    });
    return HostSocket.accepted(theirs, this.#options.poller, events);
  }

  [Symbol.dispose](): void {
    this.#end.abort();
    for (const socket of this.#sockets) socket.destroy();
  }
}
