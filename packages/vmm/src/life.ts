/**
 * A machine from its start to its end: through its resets, each of which makes a PC anew from the same description, and
 * through its pauses.
 */

import type { Pc, PcEnd } from "@lodge/machine";
import type { JobTold } from "./disks/disk-jobs.ts";

/** How a machine has come to its end. `reset` only where the reset shall be the end. */
export type MachineEnd =
  | PcEnd
  /** The guest's kernel has panicked, and nobody wants to see what it does then. */
  | { readonly reason: "panicked" };

export type LifeEvent =
  | { readonly event: "reset"; readonly byGuest: boolean }
  | { readonly event: "paused" }
  | { readonly event: "resumed" }
  | { readonly event: "power-button" }
  /** With `crashLoaded`, a second kernel deals with it; with `ends`, it is the machine's end. */
  | { readonly event: "panicked"; readonly crashLoaded: boolean; readonly ends: boolean }
  /** The guest's balloon has another size. */
  | { readonly event: "balloon"; readonly bytes: number }
  /** Something does not work any more, and the machine goes on without it. */
  | { readonly event: "trouble"; readonly message: string }
  /** A request failed on the host. `stop`: it is tried again when the machine, which pauses, goes on. */
  | {
      readonly event: "disk-error";
      readonly file: string;
      readonly message: string;
      readonly operation: "read" | "write";
      readonly action: "report" | "ignore" | "stop";
      readonly noSpace: boolean;
    }
  /** A block job of a disk is in another state, has met an error, or is over. */
  | { readonly event: "block-job"; readonly job: JobTold }
  /** The guest has let go of a disk or a network card that it was asked to. */
  | { readonly event: "unplugged"; readonly id: string }
  | { readonly event: "ended"; readonly end: MachineEnd };

export interface LifeOptions {
  /** Makes a PC that stands before its first instruction. */
  readonly make: () => Promise<Pc>;
  readonly resetEnds: boolean;
  readonly panicEnds: boolean;
  /** The PC before is gone, the next one is not there yet. */
  readonly resetting: () => void;
}

export class Life {
  readonly ended: Promise<MachineEnd>;
  readonly #options: LifeOptions;
  readonly #listeners = new Set<(event: LifeEvent) => void>();
  #pc: Pc;
  #paused = false;
  #stopping = false;
  #panicked = false;
  /** Who waits for a reset that the host asked for. */
  #resets: (() => void)[] = [];

  /** `pc` is the first, and does not run yet. */
  constructor(pc: Pc, options: LifeOptions) {
    this.#pc = pc;
    this.#options = options;
    this.ended = this.#live().then((end) => {
      this.tell({ event: "ended", end });
      return end;
    });
    pc.start();
  }

  /** The PC as it is now, which after a reset is another one. */
  get pc(): Pc {
    return this.#pc;
  }

  get state(): "running" | "paused" | "ended" {
    if (this.#stopping) return "ended";
    return this.#paused ? "paused" : "running";
  }

  watch(listener: (event: LifeEvent) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  /** Resolves when all vCPUs stand. */
  async pause(): Promise<void> {
    if (this.#paused || this.#stopping) return;
    this.#paused = true;
    if (this.#pc.state === "running") await this.#pc.pause();
    this.tell({ event: "paused" });
  }

  resume(): void {
    if (!this.#paused || this.#stopping) return;
    this.#paused = false;
    if (this.#pc.state === "paused" || this.#pc.state === "created") this.#pc.start();
    this.tell({ event: "resumed" });
  }

  pressPowerButton(): void {
    this.#pc.pressPowerButton();
    this.tell({ event: "power-button" });
  }

  /** Resolves when the guest begins anew, or the machine has ended. */
  async reset(): Promise<void> {
    if (this.#stopping) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#resets.push(resolve);
    this.#pc.reset();
    await promise;
  }

  /** What the PC's guest says by its panic device. */
  panicked(crashLoaded: boolean): void {
    const ends = this.#options.panicEnds && !crashLoaded;
    this.tell({ event: "panicked", crashLoaded, ends });
    if (!ends) return;
    this.#panicked = true;
    void this.stop();
  }

  /** Ends it as if the plug were pulled. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#pc.stop();
    await this.ended;
  }

  async #live(): Promise<MachineEnd> {
    for (;;) {
      const end = await this.#pc.ended;
      const over = await this.#next(end);
      for (const resolve of this.#resets.splice(0)) resolve();
      if (over === undefined) continue;
      this.#stopping = true;
      return this.#panicked ? { reason: "panicked" } : over;
    }
  }

  /** What comes of a PC's end: the machine's, or another PC. */
  async #next(end: PcEnd): Promise<MachineEnd | undefined> {
    if (this.#stopping || end.reason !== "reset" || this.#options.resetEnds) return end;
    await this.#pc.stop();
    const byGuest = this.#resets.length === 0;
    this.#options.resetting();
    this.tell({ event: "reset", byGuest });
    try {
      const pc = await this.#options.make();
      this.#pc = pc;
      // Somebody may have ended or paused the machine meanwhile.
      if (this.#stopping) await pc.stop();
      else if (!this.#paused) pc.start();
      return undefined;
    } catch (error) {
      const message = `it could not be made anew after its reset: ${error instanceof Error ? error.message : error}`;
      return { reason: "crash", vcpu: 0, message, registers: undefined };
    }
  }

  /** To all that watch. */
  tell(event: LifeEvent): void {
    for (const listener of this.#listeners) listener(event);
  }
}
