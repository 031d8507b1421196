/** What the guest sent and the far side has not taken yet. Bounded by the window that the guest was offered. */

import type { FarSide } from "../../host/far-side.ts";

const BLOCK = 16 << 10;

export class Outbox {
  #blocks: { bytes: Uint8Array; from: number; to: number }[] = [];
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** Gives the far side what it takes; the rest is kept as a copy. Returns 0, or a negative `errno` that is none of waiting. */
  pass(far: FarSide, data: Uint8Array, again: number): number {
    let rest = data;
    while (this.#size === 0 && rest.length > 0) {
      const taken = far.send(rest);
      if (taken === again) break;
      if (taken < 0) return taken;
      rest = rest.subarray(taken);
    }
    this.#keep(rest);
    return 0;
  }

  /** The same with what was kept. */
  flush(far: FarSide, again: number): number {
    while (this.#size > 0) {
      const block = this.#blocks[0]!;
      const taken = far.send(block.bytes.subarray(block.from, block.to));
      if (taken === again) return 0;
      if (taken < 0) return taken;
      block.from += taken;
      this.#size -= taken;
      if (block.from === block.to) this.#blocks.shift();
    }
    return 0;
  }

  #keep(data: Uint8Array): void {
    let rest = data;
    this.#size += rest.length;
    while (rest.length > 0) {
      let block = this.#blocks.at(-1);
      if (block === undefined || block.to === block.bytes.length) {
        block = { bytes: new Uint8Array(Math.max(rest.length, BLOCK)), from: 0, to: 0 };
        this.#blocks.push(block);
      }
      const part = rest.subarray(0, block.bytes.length - block.to);
      block.bytes.set(part, block.to);
      block.to += part.length;
      rest = rest.subarray(part.length);
    }
  }

  clear(): void {
    this.#blocks = [];
    this.#size = 0;
  }
}
