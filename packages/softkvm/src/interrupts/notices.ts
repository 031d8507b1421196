/** What the rest of the machine is told once no lock is held. Every thread has its own; it lives for one call. */

export interface NoticePorts {
  /**
   * The processor in this slot has something to look at. May be called from every thread, also for its own. It stores
   * atomically to a word that the processor clears by an atomic exchange before it looks: that orders its plain reads.
   */
  wake(apicIndex: number): void;
  /** The guest ended an interrupt of this GSI, which an irqfd with resampling holds: its line is down now. */
  resample(gsi: number): void;
}

export class Notices {
  readonly #ports: NoticePorts;
  readonly #wakes: number[] = [];
  readonly #resamples: number[] = [];

  constructor(ports: NoticePorts) {
    this.#ports = ports;
  }

  wake(apicIndex: number): void {
    if (!this.#wakes.includes(apicIndex)) this.#wakes.push(apicIndex);
  }

  resample(gsi: number): void {
    if (!this.#resamples.includes(gsi)) this.#resamples.push(gsi);
  }

  /** Tells them. With no lock held: what is told may come back with another interrupt. */
  flush(): void {
    for (let index = this.#wakes.pop(); index !== undefined; index = this.#wakes.pop()) this.#ports.wake(index);
    for (let gsi = this.#resamples.pop(); gsi !== undefined; gsi = this.#resamples.pop()) this.#ports.resample(gsi);
  }
}
