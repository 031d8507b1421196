/** One port of a console device: bytes in both directions, with back pressure in both. */

import { bytes, decodeBytes, encodeBytes, flag, group, integer } from "../../state.ts";
import type { Virtqueue } from "../queue/index.ts";

/** What waits for the driver to make room, at most. */
export const MOST_PENDING = 65536;
/** What is handed on at once: a chain may name gigabytes. */
const CHUNK = 65536;

export interface PortOptions {
  /** Without one, the driver has only the number. Up to 255 bytes of UTF-8. */
  name?: string;
  /** A terminal (hvc0 and on), or else a channel for programs (/dev/vport0p1 and on). */
  console?: boolean;
  /** Bytes from the guest, the callee's to keep. False: no more for now, until {@link ConsolePort.resume}. */
  onData: (data: Uint8Array) => boolean | undefined;
  /** The guest opened or closed its side. */
  onOpen?: (open: boolean) => void;
  /** There is room again for what {@link ConsolePort.send} did not take. */
  onDrain?: () => void;
  /** Whether there is somebody on this side from the beginning; true for consoles. */
  connected?: boolean;
}

export const portState = group({
  guestOpen: flag,
  connected: flag,
  ending: flag,
  closing: flag,
  pending: bytes(MOST_PENDING),
  taken: integer(0, 2 ** 32),
});
export type PortState = ReturnType<typeof portState.check>;

/** The port's two queues, as they are now. */
export interface PortQueues {
  readonly toDriver: Virtqueue | undefined;
  readonly toDevice: Virtqueue | undefined;
}

export class ConsolePort {
  readonly options: PortOptions;
  /** The guest has its side open. */
  guestOpen = false;
  /** There is somebody on this side. */
  connected: boolean;
  readonly #queues: () => PortQueues;
  readonly #connectionChanged: () => void;
  #pending: Uint8Array[] = [];
  #pendingBytes = 0;
  /** Bytes of the first chain available that were handed on already. */
  #taken = 0;
  #full = false;
  #refused = false;
  /** Nobody will be on this side once the guest has what is pending. */
  #ending = false;
  /** The guest closed its side, and this side has not taken all that came before. */
  #closing = false;

  constructor(options: PortOptions, queues: () => PortQueues, connectionChanged: () => void, saved?: PortState) {
    this.options = options;
    this.#queues = queues;
    this.#connectionChanged = connectionChanged;
    this.connected = options.connected ?? options.console ?? false;
    if (saved === undefined) return;
    this.guestOpen = saved.guestOpen;
    this.connected = saved.connected;
    this.#ending = saved.ending;
    this.#closing = saved.closing;
    this.#taken = saved.taken;
    const pending = decodeBytes(saved.pending);
    if (pending.length > 0) this.#pending.push(pending);
    this.#pendingBytes = pending.length;
  }

  /** Sends to the guest; returns how many bytes were taken. The rest is to be sent again when there is room. */
  send(data: Uint8Array): number {
    let taken = 0;
    // What the guest takes at once makes room for more. Nobody is told of that room: the answer says what was taken.
    for (let room = MOST_PENDING - this.#pendingBytes; room > 0 && taken < data.length; ) {
      const piece = data.slice(taken, taken + room);
      taken += piece.length;
      this.#pending.push(piece);
      this.#pendingBytes += piece.length;
      if (this.guestOpen) this.#fillBuffers();
      room = MOST_PENDING - this.#pendingBytes;
    }
    if (taken < data.length) this.#refused = true;
    return taken;
  }

  /** Says to the guest that there is somebody on this side, or that there is not. */
  connect(connected: boolean): void {
    this.#ending = false;
    if (this.connected === connected) return;
    this.connected = connected;
    this.#connectionChanged();
  }

  /** Leaves once the guest has what was sent: it reads the end of file then. */
  end(): void {
    this.#ending = true;
    this.flush();
  }

  /** Forgets what was sent and is not with the guest yet. */
  discard(): void {
    this.#pending = [];
    this.#pendingBytes = 0;
    this.flush();
  }

  /** Takes data again after `onData` said false. */
  resume(): void {
    this.#full = false;
    this.take();
    if (this.#closing && !this.#full) this.#guestClosed();
  }

  /** Puts what waits into the driver's buffers. */
  flush(): void {
    if (this.guestOpen && this.#pendingBytes > 0) this.#fillBuffers();
    if (this.#ending && this.#pendingBytes === 0) this.connect(false);
    if (!this.#refused || this.#pendingBytes === MOST_PENDING) return;
    this.#refused = false;
    this.options.onDrain?.();
  }

  #fillBuffers(): void {
    const queue = this.#queues().toDriver;
    queue?.serve((chain) => {
      if (this.#pendingBytes === 0) return false;
      let written = 0;
      while (this.#pending.length > 0 && written < chain.writableBytes) {
        const first = this.#pending[0]!;
        const length = chain.write(written, first);
        written += length;
        if (length === first.length) this.#pending.shift();
        else this.#pending[0] = first.subarray(length);
      }
      this.#pendingBytes -= written;
      queue.push(chain, written);
      return true;
    });
  }

  /** Hands on what the driver has sent. */
  take(): void {
    const queue = this.#queues().toDevice;
    queue?.serve((chain) => {
      if (this.#full) return false;
      while (this.#taken < chain.readableBytes) {
        const data = new Uint8Array(Math.min(CHUNK, chain.readableBytes - this.#taken));
        chain.read(this.#taken, data);
        this.#taken += data.length;
        if (this.options.onData(data) === false) this.#full = true;
        // What is left of the chain is taken when there is room.
        if (this.#full && this.#taken < chain.readableBytes) return false;
      }
      this.#taken = 0;
      queue.push(chain, 0);
      return true;
    });
  }

  setGuestOpen(open: boolean): void {
    if (this.guestOpen === open) return;
    this.guestOpen = open;
    if (open) {
      if (this.#closing) this.#guestClosed();
      this.options.onOpen?.(true);
      this.flush();
      return;
    }
    // What was sent before comes before the news.
    this.take();
    if (this.#full) this.#closing = true;
    else this.#guestClosed();
  }

  #guestClosed(): void {
    this.#closing = false;
    this.options.onOpen?.(false);
  }

  /** The driver is gone, and with it what waited for it. */
  reset(): void {
    this.#full = false;
    this.setGuestOpen(false);
    this.#pending = [];
    this.#pendingBytes = 0;
    this.#taken = 0;
  }

  save(): PortState {
    const pending = new Uint8Array(this.#pendingBytes);
    let at = 0;
    for (const piece of this.#pending) {
      pending.set(piece, at);
      at += piece.length;
    }
    return {
      guestOpen: this.guestOpen,
      connected: this.connected,
      ending: this.#ending,
      closing: this.#closing,
      pending: encodeBytes(pending),
      taken: this.#taken,
    };
  }
}
