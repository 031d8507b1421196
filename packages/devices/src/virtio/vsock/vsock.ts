/** The socket device (virtio 1.2, 5.10): streams between guest and host without a network. */

import type { Duplex } from "node:stream";
import { DeviceError } from "../../errors.ts";
import { integer, type SavedState, stateRecord } from "../../state.ts";
import { DeviceType, VirtioDevice } from "../device.ts";
import type { Chain, Virtqueue } from "../queue/index.ts";
import { Connection } from "./connection.ts";
import { EVENT, Header, HOST_CID, Op, type Packet, RECEIVE, TRANSMIT, TRANSPORT_RESET, TYPE_STREAM } from "./layout.ts";

const QUEUE_SIZE = 128;
/** VIRTIO_VSOCK_F_STREAM. */
const STREAM = 1n;
/** Connections at once, with what each may hold. */
const MOST_CONNECTIONS = 256;
/** Refusals that wait for the driver to make room; with more, nothing new is taken from it. */
const MOST_REFUSALS = 64;
/** The longest data of one packet (VIRTIO_VSOCK_MAX_PKT_BUF_SIZE). */
const MAX_DATA = 65536;
/** Where the host's ports of connections that it begins are. */
const FIRST_HOST_PORT = 2 ** 30;

export interface VsockOptions {
  /** The guest's address: 3 to 2^32 - 2. */
  cid: number;
  /** The guest connects to a port of the host. Undefined: nobody is there. */
  connect: (port: number) => Duplex | undefined;
}

const record = stateRecord("virtio-vsock", 1, { cid: integer(3, 0xfffffffe) });

export class VsockDevice extends VirtioDevice {
  readonly type = DeviceType.VSOCK;
  readonly features = STREAM;
  readonly queueSizes = [QUEUE_SIZE, QUEUE_SIZE, QUEUE_SIZE];
  readonly config = new Uint8Array(8);
  readonly #options: VsockOptions;
  readonly #connections = new Map<string, Connection>();
  /** Those that may have something to send, each in its turn. */
  readonly #ready = new Set<Connection>();
  readonly #refusals: Packet[] = [];
  readonly #header = new DataView(new ArrayBuffer(Header.LENGTH));
  #nextPort = FIRST_HOST_PORT;
  /** The driver is to be told that its connections are gone. */
  #resetPending = false;
  #scheduled = false;
  #paused = false;

  constructor(options: VsockOptions, saved?: SavedState) {
    super();
    const { cid } = options;
    if (!Number.isInteger(cid) || cid <= HOST_CID || cid >= 0xffffffff) {
      throw new DeviceError("DEVICE_CONFIGURATION", `a guest's address of ${cid}: 3 to ${0xfffffffe} are possible`);
    }
    this.#options = options;
    new DataView(this.config.buffer).setBigUint64(0, BigInt(cid), true);
    if (saved === undefined) return;
    const state = record.restore(saved);
    if (state.cid !== cid) {
      throw new DeviceError(
        "DEVICE_STATE",
        `the saved state of virtio-vsock: cid is ${state.cid}, and this guest's is ${cid}`,
      );
    }
    // The host's streams stayed where the guest was.
    this.#resetPending = true;
  }

  /** Connects a stream of the host to a port of the guest. It ends when the guest refuses. */
  dial(guestPort: number, stream: Duplex): void {
    if (this.link.features === 0n || this.#connections.size >= MOST_CONNECTIONS) {
      stream.destroy();
      return;
    }
    while (this.#connections.has(`${guestPort}:${this.#nextPort}`)) this.#advancePort();
    this.#add(guestPort, this.#nextPort, stream, false);
    this.#advancePort();
  }

  #advancePort(): void {
    this.#nextPort = this.#nextPort === 0xfffffffe ? FIRST_HOST_PORT : this.#nextPort + 1;
  }

  #add(guestPort: number, hostPort: number, stream: Duplex, established: boolean): Connection {
    const key = `${guestPort}:${hostPort}`;
    const connection = new Connection(guestPort, hostPort, stream, established, {
      ready: (one) => {
        this.#ready.add(one);
        this.#sendSoon();
      },
      gone: (one) => {
        this.#ready.delete(one);
        if (this.#connections.get(key) === one) this.#connections.delete(key);
      },
    });
    this.#connections.set(key, connection);
    return connection;
  }

  override notified(number: number): void {
    const queue = this.link.queues[number];
    if (queue === undefined || this.#paused) return;
    if (number === TRANSMIT) queue.serve((chain) => this.#take(queue, chain));
    else if (number === EVENT) this.#tellReset();
    else this.#send();
  }

  /** A packet from the guest. */
  #take(queue: Virtqueue, chain: Chain): boolean {
    if (this.#refusals.length >= MOST_REFUSALS) return false;
    const header = this.#header;
    if (chain.read(0, new Uint8Array(header.buffer)) < Header.LENGTH) {
      queue.break("a packet shorter than its header");
      return true;
    }
    const length = header.getUint32(Header.LEN, true);
    const cid = BigInt(this.#options.cid);
    const toHost = header.getBigUint64(Header.DST_CID, true) === BigInt(HOST_CID);
    // 5.10.6.4.1: whoever pretends to be somebody else, or wants another one, is not heard.
    const heard = toHost && header.getBigUint64(Header.SRC_CID, true) === cid;
    if (heard && length <= MAX_DATA && length <= chain.readableBytes - Header.LENGTH) {
      const data = new Uint8Array(header.getUint16(Header.OP, true) === Op.RW ? length : 0);
      chain.read(Header.LENGTH, data);
      this.#dispatch(
        {
          guestPort: header.getUint32(Header.SRC_PORT, true),
          hostPort: header.getUint32(Header.DST_PORT, true),
          op: header.getUint16(Header.OP, true),
          flags: header.getUint32(Header.FLAGS, true),
          bufAlloc: header.getUint32(Header.BUF_ALLOC, true),
          fwdCnt: header.getUint32(Header.FWD_CNT, true),
        },
        header.getUint16(Header.TYPE, true) === TYPE_STREAM,
        data,
      );
    }
    queue.push(chain, 0);
    return true;
  }

  #dispatch(packet: Packet, isStream: boolean, data: Uint8Array): void {
    const connection = this.#connections.get(`${packet.guestPort}:${packet.hostPort}`);
    if (!isStream || (connection === undefined && packet.op !== Op.REQUEST)) {
      if (packet.op !== Op.RST) this.#refuse(packet);
      return;
    }
    if (connection === undefined) {
      const full = this.#connections.size >= MOST_CONNECTIONS;
      const stream = full ? undefined : this.#options.connect(packet.hostPort);
      if (stream === undefined) this.#refuse(packet);
      else this.#add(packet.guestPort, packet.hostPort, stream, true).credit(packet.bufAlloc, packet.fwdCnt);
      return;
    }
    connection.credit(packet.bufAlloc, packet.fwdCnt);
    switch (packet.op) {
      case Op.RESPONSE:
        if (connection.established) connection.reset();
        else connection.accepted();
        break;
      case Op.RST:
        connection.destroy();
        break;
      case Op.SHUTDOWN:
        connection.shutDownByGuest(packet.flags);
        break;
      case Op.RW:
        if (!connection.established || !connection.receive(data)) connection.reset();
        break;
      case Op.CREDIT_UPDATE:
        break;
      case Op.CREDIT_REQUEST:
        connection.creditRequested();
        break;
      default:
        // A second request, and what does not exist.
        connection.reset();
    }
  }

  #refuse({ guestPort, hostPort }: Packet): void {
    this.#refusals.push({ guestPort, hostPort, op: Op.RST, flags: 0, bufAlloc: 0, fwdCnt: 0 });
    this.#sendSoon();
  }

  /** Packets that come up together go out together. */
  #sendSoon(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      this.#send();
    });
  }

  /** Fills the driver's buffers: refusals first, then each connection in its turn. */
  #send(): void {
    const queue = this.link.queues[RECEIVE];
    if (queue === undefined || this.#paused || (this.#refusals.length === 0 && this.#ready.size === 0)) return;
    const hadRefusals = this.#refusals.length >= MOST_REFUSALS;
    queue.serve((chain) => {
      if (chain.writableBytes < Header.LENGTH) {
        queue.break("a receive buffer shorter than a header");
        return true;
      }
      const length = this.#fill(chain);
      if (length === 0) return false;
      queue.push(chain, length);
      return true;
    });
    if (hadRefusals && this.#refusals.length < MOST_REFUSALS) this.notified(TRANSMIT);
  }

  /** Writes the next packet; returns its length, 0 for none. */
  #fill(chain: Chain): number {
    const refusal = this.#refusals.shift();
    if (refusal !== undefined) return this.#write(chain, refusal);
    for (const connection of this.#ready) {
      this.#ready.delete(connection);
      const next = connection.next(Math.min(MAX_DATA, chain.writableBytes - Header.LENGTH));
      if (next === undefined) continue;
      const { guestPort, hostPort, bufAlloc, fwdCnt } = connection;
      const length = this.#write(chain, { guestPort, hostPort, ...next, bufAlloc, fwdCnt }, next.data);
      connection.told();
      if (next.op === Op.RST) connection.destroy();
      else if (connection.isReady) this.#ready.add(connection);
      return length;
    }
    return 0;
  }

  #write(chain: Chain, packet: Packet, data: Uint8Array = new Uint8Array(0)): number {
    const header = this.#header;
    header.setBigUint64(Header.SRC_CID, BigInt(HOST_CID), true);
    header.setBigUint64(Header.DST_CID, BigInt(this.#options.cid), true);
    header.setUint32(Header.SRC_PORT, packet.hostPort, true);
    header.setUint32(Header.DST_PORT, packet.guestPort, true);
    header.setUint32(Header.LEN, data.length, true);
    header.setUint16(Header.TYPE, TYPE_STREAM, true);
    header.setUint16(Header.OP, packet.op, true);
    header.setUint32(Header.FLAGS, packet.flags, true);
    header.setUint32(Header.BUF_ALLOC, packet.bufAlloc, true);
    header.setUint32(Header.FWD_CNT, packet.fwdCnt, true);
    chain.write(0, new Uint8Array(header.buffer));
    chain.write(Header.LENGTH, data);
    return Header.LENGTH + data.length;
  }

  #tellReset(): void {
    if (!this.#resetPending) return;
    const queue = this.link.queues[EVENT];
    queue?.serve((chain) => {
      if (!this.#resetPending) return false;
      this.#resetPending = false;
      queue.push(chain, chain.write(0, Uint8Array.of(TRANSPORT_RESET, 0, 0, 0)));
      return true;
    });
  }

  override stop(): void {
    for (const connection of this.#connections.values()) connection.destroy();
    this.#refusals.length = 0;
    this.#resetPending = false;
  }

  override pause(): void {
    this.#paused = true;
  }

  override resume(): void {
    this.#paused = false;
  }

  override save(): SavedState {
    return record.save({ cid: this.#options.cid });
  }
}
