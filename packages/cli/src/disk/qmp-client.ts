/** A client of QMP, Lodge's or QEMU's: one request at a time, and events as they come. */

import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { createInterface } from "node:readline";

export type Message = Readonly<Record<string, unknown>>;

/** QEMU greets the next client of a socket when the one before has left. */
const GREETING_MS = 5000;

/** What the machine answers instead of doing it. */
export class QmpRefusal extends Error {}

export class QmpClient implements Disposable {
  readonly #socket: Socket;
  #waiting: PromiseWithResolvers<Message> | undefined;
  #gone: Error | undefined;
  readonly #onEvent: (name: string, data: Message) => void;
  /** Resolves when the connection has ended. */
  readonly ended: Promise<void>;

  private constructor(socket: Socket, onEvent: (name: string, data: Message) => void) {
    this.#socket = socket;
    this.#onEvent = onEvent;
    const lines = createInterface({ input: socket });
    lines.on("line", (line) => this.#take(line));
    // A machine that ends may reset the connection, of which both tell.
    for (const emitter of [socket, lines]) emitter.on("error", () => {});
    this.ended = new Promise<void>((resolve) => socket.once("close", () => resolve())).then(() =>
      this.#lose(new Error("the machine has ended")),
    );
  }

  /** Connects to a machine's socket. */
  static async open(path: string, onEvent: (name: string, data: Message) => void): Promise<QmpClient> {
    const socket = connect(path);
    try {
      await once(socket, "connect");
    } catch (cause) {
      const why = (cause as Error).message;
      throw new Error(`${path}: no machine listens there (lodge run --qmp SOCKET): ${why}`, { cause });
    }
    const client = new QmpClient(socket, onEvent);
    const busy = new Error(`${path}: the machine does not answer: another client may be connected, and QEMU takes one`);
    const timer = setTimeout(() => client.#lose(busy), GREETING_MS);
    const greeting = await client.#next().finally(() => clearTimeout(timer));
    if (greeting.QMP === undefined) {
      client[Symbol.dispose]();
      throw new Error(`${path}: what listens there does not speak QMP`);
    }
    await client.ask("qmp_capabilities");
    return client;
  }

  /** What the machine returns; a {@link QmpRefusal} says why it does not. */
  async ask(execute: string, args?: object): Promise<unknown> {
    const answer = this.#next();
    this.#socket.write(`${JSON.stringify({ execute, ...(args && { arguments: args }) })}\n`);
    const { error, return: returned } = await answer;
    if (error !== undefined) throw new QmpRefusal(String((error as { desc?: unknown }).desc));
    return returned;
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }

  #next(): Promise<Message> {
    if (this.#gone !== undefined) return Promise.reject(this.#gone);
    if (this.#waiting !== undefined) throw new Error("one request at a time");
    this.#waiting = Promise.withResolvers();
    return this.#waiting.promise;
  }

  #take(line: string): void {
    let message: Message;
    try {
      message = JSON.parse(line);
    } catch {
      this.#lose(new Error("the machine's answer is no JSON"));
      return;
    }
    if (typeof message.event === "string") {
      this.#onEvent(message.event, (message.data ?? {}) as Message);
      return;
    }
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.resolve(message);
  }

  #lose(error: Error): void {
    this.#gone ??= error;
    this.#socket.destroy();
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.reject(this.#gone);
  }
}
