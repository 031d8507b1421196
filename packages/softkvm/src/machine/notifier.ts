/** Notifiers and kicks of the software hypervisor: slots of the {@link Board}. */

import { type Kicker, type KickHandle, KvmError, type Notifier, type NotifierHandle } from "@lodge/kvm";
import { Attention, Board } from "./board.ts";

export interface SoftNotifierHandle extends NotifierHandle {
  readonly kind: "soft";
  readonly board: SharedArrayBuffer;
  readonly slot: number;
}

export class SoftNotifier implements Notifier {
  readonly handle: SoftNotifierHandle;
  readonly #board: Board;
  readonly #owner: boolean;

  constructor(board: Board, handle?: SoftNotifierHandle) {
    this.#board = handle === undefined ? board : new Board(handle.board);
    this.#owner = handle === undefined;
    this.handle = handle ?? { kind: "soft", board: board.buffer, slot: board.openNotifier() };
  }

  signal(): void {
    this.#board.signal(this.handle.slot);
  }

  take(): number {
    return this.#board.takeCount(this.handle.slot);
  }

  watch(callback: (count: number) => void): Disposable {
    let active = true;
    const loop = async (): Promise<void> => {
      while (active) {
        await this.#board.signalled(this.handle.slot);
        // Between the wake-up and now another thread may have taken it, or the watch may be over.
        if (!active) return;
        const count = this.take();
        if (count > 0) callback(count);
      }
    };
    void loop();
    return {
      [Symbol.dispose]: () => {
        active = false;
      },
    };
  }

  close(): void {
    if (this.#owner) this.#board.closeNotifier(this.handle.slot);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** The slot of a notifier on a board; one of another implementation or another board is refused. */
export function notifierSlot(notifier: Notifier, board: Board): number {
  if (notifier instanceof SoftNotifier && notifier.handle.board === board.buffer) return notifier.handle.slot;
  throw new KvmError("KVM_INVALID", "this notifier belongs to another hypervisor; make it with the machine's own");
}

export interface SoftKickHandle extends KickHandle {
  readonly kind: "soft";
  readonly board: SharedArrayBuffer;
  readonly slot: number;
  /** 1 when the vCPU is closed. */
  readonly closed: SharedArrayBuffer;
}

export class SoftKicker implements Kicker {
  readonly #board: Board;
  readonly #slot: number;
  readonly #closed: Int32Array;

  constructor(handle: SoftKickHandle) {
    this.#board = new Board(handle.board);
    this.#slot = handle.slot;
    this.#closed = new Int32Array(handle.closed);
  }

  kick(): boolean {
    if (Atomics.load(this.#closed, 0) !== 0) return false;
    this.#board.ask(this.#slot, Attention.KICK);
    return true;
  }
}
