/** A machine's card on a named network that a switch of ours is: frames go to its process and come from it. */

import { cutSegments } from "../packet/cut.ts";
import type { GuestSide, Offload, PacketPort } from "../port.ts";
import { type MemberOptions, Membership } from "./connection.ts";
import { CarriedFrames, sendFrame } from "./protocol.ts";

/** Bytes that the switch leaves untaken before frames for it are lost. */
const MOST_WAITING = 4 << 20;

export class SwitchClient implements PacketPort, Disposable {
  readonly takesOffloads = true;
  readonly givesOffloads = true;
  readonly #place: Membership;
  #frames = new CarriedFrames();
  /** What is left of a large packet that was cut for the guest. */
  #pieces: Uint8Array[] = [];
  #guest: GuestSide | undefined;
  /** Frames that the switch was too slow for, or was not there for. */
  lost = 0;

  /** Joins a network that a switch of ours is. Throws a `NetworkError`. */
  static async join(options: MemberOptions): Promise<SwitchClient> {
    return new SwitchClient(await Membership.take(options));
  }

  constructor(place: Membership) {
    this.#place = place;
    place.onJoined((socket) => {
      this.#frames = new CarriedFrames();
      this.#frames.receiveFrom(socket, () => this.#deliver());
    });
  }

  /** The largest IP packet of the network. */
  get mtu(): number {
    return this.#place.welcome.mtu;
  }

  get isConnected(): boolean {
    return this.#place.socket !== undefined;
  }

  connect(guest: GuestSide): void {
    this.#guest = guest;
    this.#deliver();
  }

  room(): void {
    this.#deliver();
  }

  reset(): void {
    this.#pieces = [];
    this.#deliver();
  }

  #deliver(): void {
    const guest = this.#guest;
    const { socket } = this.#place;
    if (guest === undefined) return void socket?.pause();
    for (;;) {
      while (this.#pieces.length > 0) {
        // What more comes waits in the sockets.
        if (!guest.receive(this.#pieces[0]!)) return void socket?.pause();
        this.#pieces.shift();
      }
      const next = this.#frames.next;
      if (next === undefined) break;
      if (next === false) return void socket?.destroy();
      const { frame, offload } = next;
      const { segments } = offload ?? {};
      const takes = guest.takes;
      if (segments === undefined || (segments.version === 4 ? takes.tcp4 : takes.tcp6)) {
        if (!guest.receive(frame, offload)) return void socket?.pause();
      } else this.#pieces = cutSegments(frame, offload as Required<Offload>);
      this.#frames.take();
    }
    socket?.resume();
  }

  transmit(frame: Uint8Array, offload?: Offload): void {
    const { socket } = this.#place;
    if (socket === undefined || !socket.writable || socket.writableLength > MOST_WAITING) this.lost += 1;
    else sendFrame(socket, frame, offload);
  }

  [Symbol.dispose](): void {
    this.#place[Symbol.dispose]();
  }
}
