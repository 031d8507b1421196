/** A tap: an Ethernet device of the host's kernel whose other end is a descriptor (Documentation/networking/tuntap.rst). */

import {
  Descriptor,
  EpollEvent,
  Errno,
  ioctl,
  iow,
  OpenFlag,
  open,
  SystemError,
  tryIoctl,
  tryRead,
  tryWrite,
} from "@lodge/linux";
import { NetworkError } from "../errors.ts";
import { Ifreq, interfaceRequest, requestedName } from "../host/interface.ts";
import type { Poller } from "../host/poller.ts";
import type { Offload } from "../port.ts";
import { readVnetHeader, VnetHeader, writeVnetHeader } from "../vnet-header.ts";

const PATH = "/dev/net/tun";
/** linux/if_tun.h. */
const TUNSETIFF = iow(0x54, 202, 4);
const TUNSETOFFLOAD = iow(0x54, 208, 4);
const TUNSETVNETHDRSZ = iow(0x54, 216, 4);
const IFF_TAP = 0x2;
const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;
const TapOffload = { CSUM: 1, TSO4: 2, TSO6: 4, ECN: 8 } as const;

const HEADER = VnetHeader.LENGTH;
const LONGEST = 65535 + 18;
/** Frames of one event, so that a flood leaves others their turn. */
const MOST_AT_ONCE = 64;

export class TapDevice implements Disposable {
  readonly name: string;
  readonly #file: Descriptor;
  readonly #poller: Poller;
  readonly #incoming = new Uint8Array(HEADER + LONGEST);
  readonly #outgoing = new Uint8Array(HEADER + LONGEST);
  readonly #outgoingHeader = new DataView(this.#outgoing.buffer, 0, HEADER);
  #receive: ((frame: Uint8Array, offload?: Offload) => void) | undefined;
  /** Nothing is taken until {@link resume}. */
  #paused = false;

  /** Opens a tap of this name, and makes it if there is none; an empty name or `tap%d` has the kernel choose. */
  constructor(name: string, poller: Poller) {
    this.#poller = poller;
    this.#file = new Descriptor(openTap(name));
    try {
      this.name = attach(this.#file.fd, name);
      poller.add(this.#file.fd, (mask) => {
        if (mask & EpollEvent.IN) this.#take();
      });
    } catch (error) {
      this.#file.close();
      throw error;
    }
  }

  /** What the kernel may leave undone in the frames that it gives. */
  takeOffloads({ checksum, tcp4, tcp6 }: { checksum: boolean; tcp4: boolean; tcp6: boolean }): void {
    const flags = checksum
      ? TapOffload.CSUM | (tcp4 ? TapOffload.TSO4 : 0) | (tcp6 ? TapOffload.TSO6 : 0) | TapOffload.ECN
      : 0;
    ioctl(this.#file.fd, TUNSETOFFLOAD, flags, "TUNSETOFFLOAD");
  }

  /** Who gets the kernel's frames; each is good until it returns. */
  onFrame(receive: (frame: Uint8Array, offload?: Offload) => void): void {
    this.#receive = receive;
    this.#take();
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#take();
  }

  /** Gives the kernel a frame; it drops what it has no use for, as a card does. */
  send(frame: Uint8Array, offload?: Offload): void {
    if (frame.length > LONGEST) return;
    writeVnetHeader(this.#outgoingHeader, offload);
    this.#outgoing.set(frame, HEADER);
    tryWrite(this.#file.fd, this.#outgoing.subarray(0, HEADER + frame.length));
  }

  #take(): void {
    if (this.#receive === undefined) return;
    for (let count = 0; !this.#paused; count++) {
      if (count === MOST_AT_ONCE) {
        setImmediate(() => this.#take());
        return;
      }
      const length = tryRead(this.#file.fd, this.#incoming) - HEADER;
      if (length < 0) return;
      const offload = readVnetHeader(new DataView(this.#incoming.buffer, 0, HEADER), length);
      if (offload !== false) this.#receive(this.#incoming.subarray(HEADER, HEADER + length), offload);
    }
  }

  [Symbol.dispose](): void {
    this.#paused = true;
    this.#poller.remove(this.#file.fd);
    this.#file.close();
  }
}

function openTap(name: string): number {
  try {
    return open(PATH, OpenFlag.RDWR | OpenFlag.NONBLOCK);
  } catch (error) {
    const errno = error instanceof SystemError ? error.errno : 0;
    const why = errno === Errno.ENOENT ? "this kernel has none (module tun)" : "no permission";
    throw new NetworkError("NETWORK_HOST", `tap ${name}: ${PATH}: ${why}`, { cause: error });
  }
}

/** Attaches the descriptor to the device; returns its name. */
function attach(fd: number, name: string): string {
  const request = interfaceRequest(name, "tap");
  request.setUint16(Ifreq.VALUE, IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, true);
  const result = tryIoctl(fd, TUNSETIFF, request.buffer);
  if (result < 0) {
    const why =
      result === -Errno.EPERM
        ? "no permission; make it for this user: ip tuntap add NAME mode tap user $USER"
        : result === -Errno.EBUSY
          ? "another program has it"
          : result === -Errno.EINVAL
            ? "there is a device of that name that is no tap"
            : new SystemError(-result, "TUNSETIFF", name).message;
    throw new NetworkError("NETWORK_HOST", `tap ${name}: ${why}`);
  }
  ioctl(fd, TUNSETVNETHDRSZ, Int32Array.of(HEADER), "TUNSETVNETHDRSZ");
  return requestedName(request);
}
