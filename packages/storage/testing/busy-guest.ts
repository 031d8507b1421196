/** A guest that writes a disk at random while something else is done to it, beside a plain buffer. */

import type { Drive } from "../src/index.ts";
import type { Random } from "./random.ts";

const SECTOR = 512;

export class BusyGuest {
  readonly drive: Drive;
  /** What the disk is to the guest, where no request is under way. */
  readonly model: Buffer<ArrayBuffer>;
  readonly #random: Random;
  readonly #busy = new Set<{ first: number; last: number }>();
  readonly #running: Promise<void>[] = [];
  #stopped = false;
  /** Requests that have ended. */
  requests = 0;
  /** Who waits for the guest to have done so many requests. */
  readonly #waiting: { at: number; wake: () => void }[] = [];

  /** `model` is what the disk is now. */
  constructor(drive: Drive, model: Buffer<ArrayBuffer>, random: Random, parallel = 4) {
    this.drive = drive;
    this.model = model;
    this.#random = random;
    for (let index = 0; index < parallel; index++) this.#running.push(this.#live());
  }

  /** Resolves when the guest has done so many requests more. */
  after(requests: number): Promise<void> {
    return new Promise((wake) => this.#waiting.push({ at: this.requests + requests, wake }));
  }

  /** Resolves when nothing is under way any more. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#running);
  }

  async #live(): Promise<void> {
    while (!this.#stopped) {
      await this.#request();
      this.requests += 1;
      for (const waiter of this.#waiting.filter(({ at }) => at <= this.requests)) {
        this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
        waiter.wake();
      }
      // The others have their turns too.
      await new Promise(setImmediate);
    }
  }

  async #request(): Promise<void> {
    const sectors = this.model.length / SECTOR;
    const first = this.#random.below(sectors);
    const count = Math.min(sectors - first, 1 + this.#random.below(this.#random.chance(0.1) ? 600 : 40));
    const mine = { first, last: first + count - 1 };
    // What two requests at once leave is nobody's to say.
    for (const other of this.#busy) if (other.first <= mine.last && mine.first <= other.last) return;
    this.#busy.add(mine);
    const [offset, length] = [first * SECTOR, count * SECTOR];
    try {
      const kind = this.#random.below(20);
      if (kind === 0) {
        await this.drive.flush();
      } else if (kind < 3) {
        await this.drive.writeZeroes(offset, length, kind === 1);
        this.model.fill(0, offset, offset + length);
      } else if (kind < 5) {
        await this.drive.discard(offset, length);
        // Zeros, or what was there, by whole sectors.
        const now = Buffer.alloc(length);
        await this.drive.read(offset, [now]);
        for (let at = 0; at < length; at += SECTOR) {
          const sector = now.subarray(at, at + SECTOR);
          const zero = sector.every((byte) => byte === 0);
          if (!zero && !sector.equals(this.model.subarray(offset + at, offset + at + SECTOR))) {
            throw new Error(`sector ${first + at / SECTOR} is neither zeros nor what it was after a discard`);
          }
        }
        now.copy(this.model, offset);
      } else if (kind < 8) {
        const now = Buffer.alloc(length);
        await this.drive.read(offset, [now]);
        if (!now.equals(this.model.subarray(offset, offset + length))) {
          throw new Error(`sectors ${first} to ${mine.last} are not what was written there`);
        }
      } else {
        const data = Buffer.alloc(length);
        for (let at = 0; at < length; at += SECTOR) data.fill(1 + this.#random.below(255), at, at + SECTOR);
        await this.drive.write(offset, [data.subarray(0, SECTOR), data.subarray(SECTOR)]);
        data.copy(this.model, offset);
      }
    } finally {
      this.#busy.delete(mine);
    }
  }
}
