/** One client of QMP: its negotiation, its requests one after the other, and the events that it is told. */

import type { Machine } from "../machine.ts";
import { perform } from "./commands.ts";
import { JsonStream, JsonStreamError } from "./json-stream.ts";
import { event, GREETING, idOf, parseRequest, QmpError } from "./protocol.ts";

/** Requests that wait for those before them; whoever sends more has stopped reading answers. */
const MOST_WAITING = 64;

export class QmpSession {
  readonly #machine: Machine;
  readonly #write: (text: string) => void;
  readonly #stream = new JsonStream();
  /** Before it, only `qmp_capabilities` is known, and no events are told. */
  #negotiated = false;
  #waiting = 0;
  #last: Promise<void> = Promise.resolve();

  constructor(machine: Machine, write: (text: string) => void) {
    this.#machine = machine;
    this.#write = write;
    this.#send(GREETING);
  }

  /** Takes what the client sent. False: more than it should have; better to part. */
  feed(bytes: Uint8Array): boolean {
    try {
      for (const text of this.#stream.feed(bytes)) {
        this.#waiting += 1;
        if (this.#waiting > MOST_WAITING) return false;
        this.#last = this.#last.then(() => this.#answer(text));
      }
    } catch (error) {
      if (!(error instanceof JsonStreamError)) throw error;
      const { message } = error;
      this.#last = this.#last.then(() => this.#send(refusal(new QmpError(`JSON parse error, ${message}`), undefined)));
    }
    return true;
  }

  tell(name: string, data: object | undefined): void {
    if (this.#negotiated) this.#send(event(name, data, Date.now()));
  }

  /** Resolves when everything that was asked has its answer. */
  get idle(): Promise<void> {
    return this.#last;
  }

  async #answer(text: string): Promise<void> {
    this.#waiting -= 1;
    let id: unknown;
    try {
      id = idOf(text);
      const request = parseRequest(text);
      const answer = await this.#perform(request.execute, request.arguments);
      this.#send({ return: answer, ...(id !== undefined && { id }) });
    } catch (error) {
      this.#send(refusal(error, id));
    }
  }

  async #perform(name: string, args: Readonly<Record<string, unknown>>): Promise<unknown> {
    if (name !== "qmp_capabilities") {
      if (this.#negotiated) return await perform(this.#machine, name, args);
      throw new QmpError("Expecting capabilities negotiation with 'qmp_capabilities'", "CommandNotFound");
    }
    if (this.#negotiated) {
      throw new QmpError("Capabilities negotiation is already complete, command ignored", "CommandNotFound");
    }
    const { enable = [] } = args;
    if (!Array.isArray(enable) || enable.length > 0) throw new QmpError("This server has no capabilities to enable");
    this.#negotiated = true;
    return {};
  }

  #send(message: object): void {
    this.#write(`${JSON.stringify(message)}\r\n`);
  }
}

function refusal(error: unknown, id: unknown): object {
  const { class: errorClass, message } = error instanceof QmpError ? error : new QmpError(String(error));
  return { error: { class: errorClass, desc: message }, ...(id !== undefined && { id }) };
}
