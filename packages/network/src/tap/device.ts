/** A tap: an Ethernet device of the host's kernel whose other ends are descriptors (Documentation/networking/tuntap.rst). */

import { EpollEvent, ioctl, iow, tryRead, tryWrite } from "@lodge/linux";
import { Ifreq } from "../host/interface.ts";
import type { Poller } from "../host/poller.ts";
import type { GuestSide, Offload } from "../port.ts";
import { readVnetHeader, VnetHeader, writeVnetHeader } from "../vnet-header.ts";
import { closeTap, type OpenTap } from "./open.ts";

/** linux/if_tun.h. */
const TUNSETOFFLOAD = iow(0x54, 208, 4);
const TUNSETQUEUE = iow(0x54, 217, 4);
const IFF_ATTACH_QUEUE = 0x200;
const IFF_DETACH_QUEUE = 0x400;
/** Linux since 4.14 has taken UFO from taps and given none, whatever it is told. */
const TapOffload = { CSUM: 1, TSO4: 2, TSO6: 4, ECN: 8, UFO: 16 } as const;

const HEADER = VnetHeader.LENGTH;
const LONGEST = 65535 + 18;
/** Frames of one event, so that a flood leaves others their turn. */
const MOST_AT_ONCE = 64;

type Receive = (frame: Uint8Array, offload: Offload | undefined, queue: number) => void;

export class TapDevice implements Disposable {
  readonly name: string;
  readonly queues: number;
  readonly #tap: OpenTap;
  readonly #poller: Poller;
  readonly #incoming = new Uint8Array(HEADER + LONGEST);
  readonly #outgoing = new Uint8Array(HEADER + LONGEST);
  readonly #outgoingHeader = new DataView(this.#outgoing.buffer, 0, HEADER);
  #receive: Receive | undefined;
  /** By queue: nothing is taken from it until {@link resume}. */
  readonly #paused: boolean[];
  /** Queues that the kernel gives frames to. */
  #used: number;

  /** Has what was opened, and closes it. */
  constructor(tap: OpenTap, poller: Poller) {
    this.name = tap.name;
    this.queues = tap.files.length;
    this.#tap = tap;
    this.#poller = poller;
    this.#paused = tap.files.map(() => false);
    this.#used = this.queues;
  }

  /** Of its queues, for who serves them in this one's place. */
  get fds(): readonly number[] {
    return this.#tap.files.map(({ fd }) => fd);
  }

  /** What the kernel may leave undone in the frames that it gives. */
  takeOffloads({ checksum, tcp4, tcp6, udp = false }: GuestSide["takes"]): void {
    const { CSUM, TSO4, TSO6, ECN, UFO } = TapOffload;
    const flags = checksum ? CSUM | (tcp4 ? TSO4 : 0) | (tcp6 ? TSO6 : 0) | ECN | (udp ? UFO : 0) : 0;
    ioctl(this.#tap.files[0]!.fd, TUNSETOFFLOAD, flags, "TUNSETOFFLOAD");
  }

  /** Has the kernel give frames to the first `count` queues only. */
  useQueues(count: number): void {
    const wanted = Math.min(Math.max(count, 1), this.queues);
    while (this.#used !== wanted) {
      const grows = this.#used < wanted;
      const queue = grows ? this.#used : this.#used - 1;
      const request = new DataView(new ArrayBuffer(Ifreq.SIZE));
      request.setUint16(Ifreq.VALUE, grows ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE, true);
      ioctl(this.#tap.files[queue]!.fd, TUNSETQUEUE, request.buffer, "TUNSETQUEUE");
      this.#used += grows ? 1 : -1;
    }
  }

  /** Who gets the kernel's frames; each is good until it returns. Said once: nobody reads the tap before. */
  onFrame(receive: Receive): void {
    this.#receive = receive;
    for (const [queue, { fd }] of this.#tap.files.entries()) {
      this.#poller.add(fd, (mask) => {
        if (mask & EpollEvent.IN) this.#take(queue);
      });
      this.#take(queue);
    }
  }

  pause(queue = 0): void {
    this.#paused[queue] = true;
  }

  resume(queue = 0): void {
    this.#paused[queue] = false;
    this.#take(queue);
  }

  /** Gives the kernel a frame; it drops what it has no use for, as a card does. */
  send(frame: Uint8Array, offload?: Offload, queue = 0): void {
    if (frame.length > LONGEST) return;
    writeVnetHeader(this.#outgoingHeader, offload);
    this.#outgoing.set(frame, HEADER);
    const { fd } = this.#tap.files[queue < this.#used ? queue : 0]!;
    tryWrite(fd, this.#outgoing.subarray(0, HEADER + frame.length));
  }

  #take(queue: number): void {
    if (this.#receive === undefined) return;
    for (let count = 0; !this.#paused[queue]; count++) {
      if (count === MOST_AT_ONCE) {
        setImmediate(() => this.#take(queue));
        return;
      }
      const length = tryRead(this.#tap.files[queue]!.fd, this.#incoming) - HEADER;
      if (length < 0) return;
      const offload = readVnetHeader(new DataView(this.#incoming.buffer, 0, HEADER), length, true);
      if (offload !== false) this.#receive(this.#incoming.subarray(HEADER, HEADER + length), offload, queue);
    }
  }

  [Symbol.dispose](): void {
    this.#paused.fill(true);
    for (const { fd } of this.#tap.files) this.#poller.remove(fd);
    closeTap(this.#tap);
  }
}
