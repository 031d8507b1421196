/** QMP's other side. */

import { once } from "node:events";
import { connect, type Socket } from "node:net";

export type Message = Record<string, unknown>;

/** A client of QMP: sends requests, keeps answers and events apart. */
export class Client {
  readonly events: Message[] = [];
  readonly #socket: Socket;
  readonly #answers: Message[] = [];
  #text = "";
  #waiting: (() => void)[] = [];
  closed = false;

  static async connect(path: string): Promise<Client> {
    const socket = connect(path);
    await once(socket, "connect");
    return new Client(socket);
  }

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("data", (bytes) => {
      this.#text += bytes;
      const lines = this.#text.split("\r\n");
      this.#text = lines.pop()!;
      for (const message of lines.map((line) => JSON.parse(line) as Message)) {
        (message.event === undefined ? this.#answers : this.events).push(message);
      }
      this.#wake();
    });
    socket.on("error", () => {});
    socket.on("close", () => {
      this.closed = true;
      this.#wake();
    });
  }

  #wake(): void {
    for (const wake of this.#waiting.splice(0)) wake();
  }

  async #until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      if (this.closed) throw new Error(`closed; events: ${JSON.stringify(this.events)}`);
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  async answer(): Promise<Message> {
    await this.#until(() => this.#answers.length > 0);
    return this.#answers.shift()!;
  }

  send(text: string): void {
    this.#socket.write(text);
  }

  async ask(execute: string, args?: object): Promise<Message> {
    this.send(JSON.stringify({ execute, ...(args && { arguments: args }) }));
    return await this.answer();
  }

  /** Waits for an event, and returns its data. */
  async event(name: string): Promise<unknown> {
    const found = () => this.events.findIndex(({ event }) => event === name);
    await this.#until(() => found() >= 0);
    return this.events.splice(found(), 1)[0]!.data;
  }

  async end(): Promise<void> {
    while (!this.closed) await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  close(): void {
    this.#socket.destroy();
  }
}
