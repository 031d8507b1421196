/** JSON values one after the other in a stream of bytes, with or without space between them, as QMP clients send them. */

/** A request is short; whoever sends more than this without an end is none of ours. */
const LONGEST_BYTES = 1 << 20;
/** As deep as any request of the protocol, and shallow enough for every parser. */
const DEEPEST = 64;

const [QUOTE, BACKSLASH] = [0x22, 0x5c];
const OPENING: ReadonlySet<number> = new Set(Buffer.from("{["));
const CLOSING: ReadonlySet<number> = new Set(Buffer.from("}]"));
const SPACE: ReadonlySet<number> = new Set(Buffer.from(" \t\r\n"));

export class JsonStreamError extends Error {}

/** Objects and arrays; anything else between them is an error, after which the stream goes on behind it. */
export class JsonStream {
  #kept: Buffer = Buffer.alloc(0);
  /** How far it has been looked at, and what was found there. */
  #at = 0;
  #depth = 0;
  #inString = false;
  #escaped = false;

  /** The values that are whole now, each as its text; throws a {@link JsonStreamError} for what can be none. */
  *feed(bytes: Uint8Array): Generator<string> {
    this.#kept = Buffer.concat([this.#kept, bytes]);
    while (this.#at < this.#kept.length) {
      const byte = this.#kept[this.#at++]!;
      if (this.#inString) this.#character(byte);
      else if (byte === QUOTE && this.#depth > 0) this.#inString = true;
      else if (OPENING.has(byte)) this.#depth += 1;
      else if (CLOSING.has(byte) && this.#depth > 0) this.#depth -= 1;
      else if (this.#depth === 0 && SPACE.has(byte)) {
        this.#take();
        continue;
      }
      if (this.#depth > DEEPEST || this.#at > LONGEST_BYTES)
        throw this.#refuse("it is larger or deeper than a request");
      if (this.#depth > 0) continue;
      // Something that began with no bracket, or the end of what did.
      if (!CLOSING.has(byte) || this.#at < 2) throw this.#refuse("a request is an object");
      yield this.#take();
    }
  }

  #character(byte: number): void {
    if (this.#escaped) this.#escaped = false;
    else if (byte === BACKSLASH) this.#escaped = true;
    else if (byte === QUOTE) this.#inString = false;
  }

  #take(): string {
    const text = this.#kept.toString("utf8", 0, this.#at);
    this.#kept = this.#kept.subarray(this.#at);
    this.#at = 0;
    return text;
  }

  /** Drops what was kept, all of it: where the next value begins nobody knows. */
  #refuse(why: string): JsonStreamError {
    this.#kept = Buffer.alloc(0);
    [this.#at, this.#depth, this.#inString, this.#escaped] = [0, 0, false, false];
    return new JsonStreamError(why);
  }
}
