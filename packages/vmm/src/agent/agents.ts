/** All agents of a guest: commands go to one that is free, or wait for it. */

import type { ConsolePort, PortOptions } from "@lodge/devices";
import type { VmmError } from "../errors.ts";
import { AgentChannel, type GuestProcess } from "./channel.ts";

/** As many as images start agents (the ports 1 to 16 of the console). */
const COUNT = 4;
const PORTS_EACH = 4;

export class Agents {
  readonly #channels = Array.from({ length: COUNT }, (_, index): AgentChannel => {
    const channel = new AgentChannel(`org.lodge.agent.${index}`, () => this.#waiting.shift()?.(channel));
    return channel;
  });
  readonly #waiting: ((channel: AgentChannel) => void)[] = [];

  /** For the console device: its ports from 1 on. */
  get portOptions(): readonly PortOptions[] {
    return this.#channels.flatMap(({ portOptions }) => portOptions);
  }

  connect(ports: readonly ConsolePort[]): void {
    for (const [index, channel] of this.#channels.entries()) {
      channel.connect(ports.slice(index * PORTS_EACH, (index + 1) * PORTS_EACH));
    }
  }

  /** Starts a command, once an agent is there and free. */
  async start(script: Buffer): Promise<GuestProcess> {
    // A guest without agents has none that is ready; the first one tells.
    await this.#channels[0]!.ready;
    // From here to the channel's start nothing waits, so nobody else takes the same one.
    const free = this.#channels.find((channel) => channel.isFree);
    if (free !== undefined) return free.start(script);
    return await new Promise((resolve, reject) => {
      this.#waiting.push((channel) => {
        try {
          resolve(channel.start(script));
        } catch (error) {
          reject(error);
        }
      });
    });
  }

  async setWindow(device: string, rows: number, columns: number): Promise<void> {
    await this.#channels[0]!.ready;
    // One that runs a command hears nothing else.
    this.#channels.find((channel) => channel.isFree)?.setWindow(device, rows, columns);
  }

  end(error: VmmError): void {
    for (const channel of this.#channels) channel.end(error);
    for (const resolve of this.#waiting.splice(0)) resolve(this.#channels[0]!);
  }
}
