/**
 * What is said on a switch's socket. First a line of JSON each way: what the client wants, and what it gets or why not. Then,
 * at a port, frames both ways: u32 length in the order of the network, struct virtio_net_hdr, the frame, so that checksums and
 * segments that a receiver does not need are never made.
 */

import type { Socket } from "node:net";
import { NetworkError } from "../errors.ts";
import type { UnixStream } from "../host/unix-stream.ts";
import type { Offload } from "../port.ts";
import { FrameReader } from "../stream/frames.ts";
import { readVnetHeader, VnetHeader, writeVnetHeader } from "../vnet-header.ts";
import { LONGEST_FRAME, type PortCounters } from "./switch.ts";
import type { VlanRule } from "./vlan.ts";

/** Both ends are of one version: an older switch is served on until its machines have ended. */
export const PROTOCOL = 1;

export interface PortHello extends VlanRule {
  readonly want: "port";
  readonly mac: string;
  /** What the machine is called. */
  readonly name?: string;
  /** What it is kept from. Default: `clean-traffic`. */
  readonly filter?: string;
}
/** A port forward, as people write it, from now on or no more. */
export interface ForwardHello {
  readonly want: "forward";
  readonly add?: string;
  readonly remove?: string;
}
export type Hello = PortHello | ForwardHello | { readonly want: "status" } | { readonly want: "dump" };

export interface PortStatus extends VlanRule {
  readonly mac: string;
  readonly name?: string;
  readonly filter?: string;
  /** Its address by DHCP. */
  readonly address?: string;
  readonly counters: PortCounters;
}
export interface SwitchStatus {
  readonly pid: number;
  readonly ports: readonly PortStatus[];
}

const LENGTH = 4;
/** With the tag that the switch may add. */
const LONGEST = VnetHeader.LENGTH + LONGEST_FRAME + 4;
/** A line of the beginning. */
const LONGEST_LINE = 65536;
const NEWLINE = 10;

/** Where frames are put together; the socket has done with one when it is sent. */
const spare = Buffer.allocUnsafeSlow(LENGTH + LONGEST);

/** Sends a frame, which is the caller's again at once. */
export function sendFrame(socket: UnixStream, frame: Uint8Array, offload: Offload | undefined): void {
  const bytes = spare.subarray(0, LENGTH + VnetHeader.LENGTH + frame.length);
  encodeFrame(bytes, frame, offload);
  socket.send(bytes);
}

function encodeFrame(bytes: Buffer, frame: Uint8Array, offload: Offload | undefined): void {
  bytes.writeUInt32BE(VnetHeader.LENGTH + frame.length);
  const header = new DataView(bytes.buffer, bytes.byteOffset + LENGTH, VnetHeader.LENGTH);
  writeVnetHeader(header, offload);
  header.setUint16(VnetHeader.NUM_BUFFERS, 0);
  bytes.set(frame, LENGTH + VnetHeader.LENGTH);
}

export interface CarriedFrame {
  readonly frame: Uint8Array;
  readonly offload: Offload | undefined;
}

/** Takes a stream of frames apart. */
export class CarriedFrames {
  readonly #reader = new FrameReader(LONGEST);

  /** Takes what comes on a socket from now on, and tells of it each time. */
  receiveFrom(socket: UnixStream, received: () => void): void {
    socket.receiveInto(this.#reader, received);
  }

  /** Undefined while there is none; false for what no port sends. {@link take} moves on. */
  get next(): CarriedFrame | undefined | false {
    const bytes = this.#reader.next;
    if (bytes === undefined || bytes === false) return bytes;
    const length = bytes.length - VnetHeader.LENGTH;
    if (length <= 0) return false;
    const offload = readVnetHeader(new DataView(bytes.buffer, bytes.byteOffset, VnetHeader.LENGTH), length);
    return offload === false ? false : { frame: bytes.subarray(VnetHeader.LENGTH), offload };
  }

  take(): void {
    this.#reader.take();
  }
}

export function sendLine(socket: Socket, value: object): void {
  socket.write(`${JSON.stringify({ protocol: PROTOCOL, ...value })}\n`);
}

/** The first line, as an object; what follows it is given back to the socket. Rejects when there is none. */
export function receiveLine(socket: Socket): Promise<Record<string, unknown>> {
  let got = Buffer.alloc(0);
  const { promise, resolve, reject } = Promise.withResolvers<Record<string, unknown>>();
  const refuse = (why: string) => reject(new NetworkError("NETWORK_HOST", why));
  const onClose = () => refuse("the switch's socket was closed");
  const onData = (data: Buffer) => {
    got = Buffer.concat([got, data]);
    const end = got.indexOf(NEWLINE);
    if (end < 0) {
      if (got.length > LONGEST_LINE) refuse("no switch speaks like this");
      return;
    }
    socket.off("data", onData).pause();
    if (end + 1 < got.length) socket.unshift(got.subarray(end + 1));
    try {
      const value: unknown = JSON.parse(got.toString("utf8", 0, end));
      if (typeof value !== "object" || value === null) throw new TypeError("no object");
      resolve(value as Record<string, unknown>);
    } catch {
      refuse("no switch speaks like this");
    }
  };
  socket.on("data", onData).once("close", onClose).resume();
  return promise.finally(() => socket.off("data", onData).off("close", onClose));
}
