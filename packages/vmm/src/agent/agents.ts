/** All agents of a guest: commands go to one that is free, or wait for it. */

import type { ConsolePort, PortOptions } from "@lodge/devices";
import type { VmmError } from "../errors.ts";
import { AgentChannel, type GuestProcess } from "./channel.ts";

/** As many as images start agents (the ports 1 to 16 of the console). */
const COUNT = 4;
const PORTS_EACH = 4;

interface Waiting {
  readonly take: (channel: AgentChannel) => void;
  readonly giveUp: (why: unknown) => void;
}

interface Window {
  readonly device: string;
  readonly rows: number;
  readonly columns: number;
}

export class Agents {
  readonly #channels = Array.from({ length: COUNT }, (_, index): AgentChannel => {
    const channel = new AgentChannel(`org.lodge.agent.${index}`, () => this.#freed(channel));
    return channel;
  });
  readonly #waiting = new Set<Waiting>();
  #ended: VmmError | undefined;
  /** The terminal's last size, and whether an agent was told. */
  #window: Window | undefined;
  #windowTold = true;

  /** For the console device: its ports from 1 on. */
  get portOptions(): readonly PortOptions[] {
    return this.#channels.flatMap(({ portOptions }) => portOptions);
  }

  connect(ports: readonly ConsolePort[]): void {
    for (const [index, channel] of this.#channels.entries()) {
      channel.connect(ports.slice(index * PORTS_EACH, (index + 1) * PORTS_EACH));
    }
  }

  /** Starts a command, once an agent is there and free. A signal that is aborted gives up waiting for it. */
  start(script: Buffer, signal?: AbortSignal): Promise<GuestProcess> {
    const { promise, resolve, reject } = Promise.withResolvers<GuestProcess>();
    if (signal?.aborted) reject(signal.reason);
    else if (this.#ended !== undefined) reject(this.#ended);
    else {
      const done = () => {
        this.#waiting.delete(waiting);
        signal?.removeEventListener("abort", aborted);
      };
      const aborted = () => waiting.giveUp(signal?.reason);
      const waiting: Waiting = {
        take: (channel) => {
          done();
          resolve(channel.start(script));
        },
        giveUp: (why) => {
          done();
          reject(why);
        },
      };
      signal?.addEventListener("abort", aborted);
      this.#waiting.add(waiting);
      const free = this.#channels.find((channel) => channel.isFree);
      if (free !== undefined) waiting.take(free);
    }
    return promise;
  }

  /** The size of the terminal in which the guest's console is shown. The next agent that is free hears of it. */
  setWindow(device: string, rows: number, columns: number): void {
    this.#window = { device, rows, columns };
    this.#windowTold = false;
    const free = this.#channels.find((channel) => channel.isFree);
    if (free !== undefined) this.#tellWindow(free);
  }

  /** The guest begins anew: its commands are lost for this reason, its agents are to come. Who waits for one goes on doing so. */
  restart(why: VmmError): void {
    this.#windowTold = this.#window === undefined;
    for (const channel of this.#channels) channel.restart(why);
  }

  end(error: VmmError): void {
    this.#ended = error;
    for (const channel of this.#channels) channel.restart(error);
    for (const waiting of [...this.#waiting]) waiting.giveUp(error);
  }

  #freed(channel: AgentChannel): void {
    if (!this.#windowTold) this.#tellWindow(channel);
    const [next] = this.#waiting;
    next?.take(channel);
  }

  #tellWindow(channel: AgentChannel): void {
    const { device, rows, columns } = this.#window!;
    channel.setWindow(device, rows, columns);
    this.#windowTold = true;
  }
}
