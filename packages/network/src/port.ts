/** Where a network device's frames come from and go to: user-mode NAT, a switch, a tap. */

/** What is still to be done to a frame. */
export interface Offload {
  /** The internet checksum of everything from `start` on belongs at `start + offset`, where the pseudo-header's sum is. */
  readonly checksum?: { readonly start: number; readonly offset: number };
  /** TCP over `version`, to be cut into segments of `size` bytes behind headers of `headerBytes`. */
  readonly segments?: {
    readonly version: 4 | 6;
    readonly size: number;
    readonly headerBytes: number;
    readonly congestion: boolean;
  };
  /**
   * UDP in an IP packet longer than its link takes, to be sent in fragments with `size` bytes behind headers of `headerBytes` (UFO).
   * Only where both sides say that they have it.
   */
  readonly fragments?: { readonly size: number; readonly headerBytes: number };
}

export interface PacketPort {
  /** What it takes from the guest: frames whose checksum is not there yet, and TCP that is yet to be cut. */
  readonly takesOffloads: boolean;
  /** Whether what it delivers may be so too, if the guest takes that ({@link GuestSide.takes}). */
  readonly givesOffloads: boolean;
  /** Whether it takes UDP whole that the guest leaves to be sent in {@link Offload.fragments}, and delivers such. Default: false. */
  readonly hasLargeDatagrams?: boolean;
  /**
   * A frame from the guest, without FCS, out of its pair `queue` (0 unless said). The callee may write to it, and has it until it
   * returns.
   */
  transmit(frame: Uint8Array, offload?: Offload, queue?: number): void;
  /** The device is there: where to deliver to. Called once. */
  connect(guest: GuestSide): void;
  /** There is room again after {@link GuestSide.receive} said false. */
  room?(): void;
  /** Pairs of queues that the guest uses from now on; one at first, and again after a reset. */
  usePairs?(count: number): void;
  /** The driver is gone or begins anew: what was under way with it is over. */
  reset?(): void;
}

export interface GuestSide {
  /**
   * Gives the guest a frame, which is the caller's again at once. False: it has no room for it now. True: it is with the guest, or
   * was not for it. `queue`: the pair that it belongs into; unless said, that of its flow.
   */
  receive(frame: Uint8Array, offload?: Offload, queue?: number): boolean;
  /** What the guest's driver takes now. */
  readonly takes: {
    readonly checksum: boolean;
    readonly tcp4: boolean;
    readonly tcp6: boolean;
    readonly udp?: boolean;
  };
}

/** Puts the checksum (RFC 1071) where an {@link Offload} wants it. */
export function finishChecksum(frame: Uint8Array, { start, offset }: { start: number; offset: number }): void {
  let sum = 0;
  for (let at = start; at + 1 < frame.length; at += 2) sum += (frame[at]! << 8) | frame[at + 1]!;
  if ((frame.length - start) % 2 === 1) sum += frame[frame.length - 1]! << 8;
  // At most 32 K words of 16 bits: two folds are enough.
  sum = (sum & 0xffff) + (sum >>> 16);
  sum = ~((sum & 0xffff) + (sum >>> 16)) & 0xffff;
  frame[start + offset] = sum >> 8;
  frame[start + offset + 1] = sum & 0xff;
}
