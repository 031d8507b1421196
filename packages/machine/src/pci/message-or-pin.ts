/**
 * The one interrupt of a simple function: a message where its driver has switched MSI on, else its pin. A message goes out when
 * the interrupt rises, or when messages are switched on while it is up.
 */

import type { InterruptLine } from "@lodge/devices/vcpu-side";
import { type Msi, SharedLock } from "@lodge/kvm";
import type { ConfigSpace } from "./config-space.ts";
import { Command, Config, MsiField } from "./layout.ts";
import { MsiMessages } from "./msi.ts";

/** Words of the shared memory. */
const Word = { LOCK: 0, LEVEL: 1, MESSAGES: 2, COUNT: 3 } as const;

/** What threads share of it. */
export interface MessageOrPinHandle {
  readonly words: SharedArrayBuffer;
  readonly msi: SharedArrayBuffer;
}

export class MessageOrPin implements InterruptLine {
  readonly #space: ConfigSpace;
  readonly #words: Int32Array;
  readonly #lock: SharedLock;
  readonly #pin: InterruptLine;
  readonly #msi: MsiMessages;

  static create(): MessageOrPinHandle {
    return { words: new SharedArrayBuffer(4 * Word.COUNT), msi: MsiMessages.create() };
  }

  constructor(
    handle: MessageOrPinHandle,
    space: ConfigSpace,
    { pin, send }: { pin: InterruptLine; send: (message: Msi) => void },
  ) {
    this.#space = space;
    this.#words = new Int32Array(handle.words);
    this.#lock = new SharedLock(this.#words, Word.LOCK);
    this.#pin = pin;
    this.#msi = new MsiMessages(handle.msi, space, send);
  }

  set(high: boolean): void {
    this.#lock.acquire();
    if (high !== (this.#words[Word.LEVEL] !== 0)) {
      this.#words[Word.LEVEL] = high ? 1 : 0;
      this.#space.showInterrupt(high);
      if (!this.#msi.isEnabled) this.#setPin();
      else if (high) this.#msi.raise(0);
    }
    this.#lock.release();
  }

  /** Configuration space was written at `offset`. */
  configWritten(offset: number): void {
    const { msiAt } = this.#space;
    const isMsi = offset > msiAt - 4 && offset < msiAt + MsiField.CAPABILITY_BYTES;
    if (!isMsi && offset >= Config.STATUS) return;
    this.#lock.acquire();
    this.#msi.written();
    const messages = this.#msi.isEnabled ? 1 : 0;
    if (messages === 1 && this.#words[Word.MESSAGES] === 0 && this.#words[Word.LEVEL] !== 0) this.#msi.raise(0);
    this.#words[Word.MESSAGES] = messages;
    this.#setPin();
    this.#lock.release();
  }

  /** A function whose messages are on does not use its pin (6.8.1.3). */
  #setPin(): void {
    const isOff = this.#msi.isEnabled || (this.#space.command & Command.INTX_DISABLE) !== 0;
    this.#pin.set(!isOff && this.#words[Word.LEVEL] !== 0);
  }
}
