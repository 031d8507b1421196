/** Another process that serves a device's rings, at the other end of a {@link Connection}: what it can do, and the rings that it has. */

import { NetworkError } from "@lodge/network";
import type { GuestRam } from "../../ram.ts";
import { Feature } from "../device.ts";
import type { BackEnd, Vring } from "./back-end.ts";
import { Connection } from "./user-connection.ts";
import {
  memoryTable,
  OUR_PROTOCOL_FEATURES,
  PROTOCOL_FEATURES,
  ProtocolFeature,
  Request,
  u64,
  vringAddress,
  vringState,
} from "./user-protocol.ts";

export class UserBackEnd implements BackEnd {
  /** The device's and the rings' features that it has. */
  readonly features: bigint;
  /** Pairs of queues that it serves at most. */
  readonly pairs: number;
  readonly needsFile = true;
  readonly #connection: Connection;
  readonly #protocol: bigint;

  /** Connects to a Unix socket, and asks what it can do. Throws a `NetworkError`. */
  static async connect(path: string): Promise<UserBackEnd> {
    using undo = new DisposableStack();
    const connection = undo.use(new Connection(path));
    const refuse = (why: string): never => {
      throw new NetworkError("NETWORK_HOST", `vhost-user ${path}: ${why}`);
    };
    let [features, protocol, pairs] = [0n, 0n, 1];
    try {
      features = await askU64(connection, Request.GET_FEATURES);
      if (features & PROTOCOL_FEATURES) {
        protocol = (await askU64(connection, Request.GET_PROTOCOL_FEATURES)) & OUR_PROTOCOL_FEATURES;
        connection.send(Request.SET_PROTOCOL_FEATURES, u64(protocol));
      }
      if (protocol & ProtocolFeature.MQ) pairs = Number(await askU64(connection, Request.GET_QUEUE_NUM));
      connection.send(Request.SET_OWNER);
    } catch (error) {
      refuse(`who listens there does not speak it: ${(error as Error).message}`);
    }
    if (!(features & Feature.VERSION_1)) refuse("who listens there knows only the virtio before version 1");
    undo.move();
    return new UserBackEnd(connection, features, protocol, pairs);
  }

  private constructor(connection: Connection, features: bigint, protocol: bigint, pairs: number) {
    this.#connection = connection;
    this.features = features & ~PROTOCOL_FEATURES;
    this.#protocol = protocol;
    this.pairs = pairs;
  }

  /** Told once that it is gone, and why; at once when it is already. */
  onEnd(told: (why: string) => void): void {
    this.#connection.onEnd = told;
    if (!this.#connection.isOpen) told("it closed the connection");
  }

  get isThere(): boolean {
    return this.#connection.isOpen;
  }

  /** Gives it rings in this memory for a driver that chose `features`. */
  async start(features: bigint, { shared: ram }: GuestRam, rings: readonly Vring[]): Promise<void> {
    if (ram === undefined) throw new Error("the guest's memory is in no file");
    const connection = this.#connection;
    const protocol = this.#protocol === 0n ? 0n : PROTOCOL_FEATURES;
    connection.send(Request.SET_FEATURES, u64((features & this.features) | protocol));
    // A descriptor for each piece, although all are of one file.
    const files = ram.pieces.map(() => ram.fd);
    if (this.#protocol & ProtocolFeature.REPLY_ACK) {
      await connection.confirm(Request.SET_MEM_TABLE, memoryTable(ram, true), files);
    } else {
      connection.send(Request.SET_MEM_TABLE, memoryTable(ram, true), files);
    }
    for (const { queue, size, base, call, kick, descriptors, available, used } of rings) {
      const buffer = ram.address - ram.start;
      const parts = { descriptors: buffer + descriptors, available: buffer + available, used: buffer + used };
      connection.send(Request.SET_VRING_NUM, vringState(queue, size));
      connection.send(Request.SET_VRING_BASE, vringState(queue, base));
      connection.send(Request.SET_VRING_ADDR, vringAddress(queue, parts));
      connection.send(Request.SET_VRING_CALL, u64(BigInt(queue)), [call]);
      connection.send(Request.SET_VRING_KICK, u64(BigInt(queue)), [kick]);
    }
  }

  /** Which of its rings shall carry frames. */
  enablePairs(rings: readonly Vring[], pairs: number): void {
    // Without protocol features rings are enabled from their kick on.
    if (this.#protocol === 0n) return;
    for (const { queue } of rings) {
      this.#connection.send(Request.SET_VRING_ENABLE, vringState(queue, queue < 2 * pairs ? 1 : 0));
    }
  }

  /** Takes the rings back: it uses them no longer when this resolves. Returns where each goes on. */
  async stop(rings: readonly Vring[]): Promise<number[]> {
    this.enablePairs(rings, 0);
    const answers = rings.map(({ queue }) => this.#connection.ask(Request.GET_VRING_BASE, vringState(queue, 0)));
    return (await Promise.all(answers)).map((answer) => (answer.byteLength < 8 ? 0 : answer.getUint16(4, true)));
  }

  /** Tells it the largest packet, where it wants to know. */
  setMtu(mtu: number): void {
    if (this.#protocol & ProtocolFeature.NET_MTU) this.#connection.send(Request.NET_SET_MTU, u64(BigInt(mtu)));
  }

  /** Has it say on its network where this station is, for a driver that does not say so itself. */
  announce(mac: Uint8Array): void {
    if (!(this.#protocol & ProtocolFeature.RARP)) return;
    const bytes = new Uint8Array(8);
    bytes.set(mac);
    this.#connection.send(Request.SEND_RARP, bytes);
  }

  end(why: string): void {
    this.#connection.end(why);
  }

  [Symbol.dispose](): void {
    this.#connection[Symbol.dispose]();
  }
}

async function askU64(connection: Connection, request: Request): Promise<bigint> {
  const answer = await connection.ask(request);
  if (answer.byteLength !== 8) throw new Error(`an answer of ${answer.byteLength} bytes to request ${request}`);
  return answer.getBigUint64(0, true);
}
