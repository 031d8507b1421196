/** What is typed on a serial port: kept until the guest has read what came before. */

import type { Uart16550 } from "@lodge/devices";

export class SerialInput {
  readonly #uart: Uart16550;
  #waiting: Uint8Array[] = [];

  constructor(uart: Uart16550) {
    this.#uart = uart;
  }

  /** How many bytes the guest has not had room for. A sender who cares waits until it is small. */
  get pendingBytes(): number {
    return this.#waiting.reduce((sum, { length }) => sum + length, 0);
  }

  write(bytes: Uint8Array | string): void {
    const data = typeof bytes === "string" ? new TextEncoder().encode(bytes) : bytes;
    if (data.length === 0) return;
    this.#waiting.push(data);
    this.pump();
  }

  /** Hands on what there is room for: at once, and whenever the port says that there is some. */
  pump(): void {
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      const taken = this.#uart.receive(next);
      if (taken < next.length) {
        this.#waiting[0] = next.subarray(taken);
        return;
      }
      this.#waiting.shift();
    }
  }
}
