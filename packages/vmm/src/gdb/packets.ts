/** Packets of GDB's remote protocol ("Debugging with GDB", appendix E, Overview): `$DATA#CHECKSUM`, `+`, `-`, and 0x03. */

const DOLLAR = 0x24;
const HASH = 0x23;
const ESCAPE = 0x7d;
const INTERRUPT = 0x03;
const PLUS = 0x2b;
const MINUS = 0x2d;

/** What GDB is told that it may send; what is longer is not GDB. */
export const LARGEST_PACKET = 0x8000;

export type Received =
  | { readonly type: "packet"; readonly data: Buffer }
  | { readonly type: "damaged" }
  | { readonly type: "interrupt" }
  | { readonly type: "acknowledged" }
  | { readonly type: "again" };

/** Takes bytes cut wherever, gives what they were. */
export class PacketReader {
  #data: number[] = [];
  #state: "outside" | "data" | "escaped" | "checksum" | "checksum-low" = "outside";
  #sum = 0;
  #claimed = "";

  *feed(bytes: Uint8Array): Generator<Received> {
    for (const byte of bytes) {
      const received = this.#take(byte);
      if (received !== undefined) yield received;
    }
  }

  #take(byte: number): Received | undefined {
    switch (this.#state) {
      case "outside":
        if (byte === DOLLAR) this.#begin();
        else if (byte === INTERRUPT) return { type: "interrupt" };
        else if (byte === PLUS) return { type: "acknowledged" };
        else if (byte === MINUS) return { type: "again" };
        return undefined;
      case "data":
        // A new packet although the last one has no end: that one is lost.
        if (byte === DOLLAR) this.#begin();
        else if (byte === HASH) this.#state = "checksum";
        else {
          this.#sum = (this.#sum + byte) & 0xff;
          if (byte === ESCAPE) this.#state = "escaped";
          else this.#push(byte);
        }
        return undefined;
      case "escaped":
        this.#sum = (this.#sum + byte) & 0xff;
        this.#state = "data";
        this.#push(byte ^ 0x20);
        return undefined;
      case "checksum":
        this.#claimed = String.fromCharCode(byte);
        this.#state = "checksum-low";
        return undefined;
      case "checksum-low": {
        this.#state = "outside";
        const claimed = Number.parseInt(this.#claimed + String.fromCharCode(byte), 16);
        return claimed === this.#sum ? { type: "packet", data: Buffer.from(this.#data) } : { type: "damaged" };
      }
    }
  }

  #begin(): void {
    this.#data = [];
    this.#sum = 0;
    this.#state = "data";
  }

  #push(byte: number): void {
    if (this.#data.length < LARGEST_PACKET) this.#data.push(byte);
    else this.#state = "outside";
  }
}

/** A packet with this data, which may be binary. */
export function packet(data: string | Uint8Array): Buffer {
  const bytes = typeof data === "string" ? Buffer.from(data, "latin1") : data;
  const escaped: number[] = [];
  for (const byte of bytes) {
    // `*` would begin a run length.
    if (byte === DOLLAR || byte === HASH || byte === ESCAPE || byte === 0x2a) escaped.push(ESCAPE, byte ^ 0x20);
    else escaped.push(byte);
  }
  const sum = escaped.reduce((total, byte) => (total + byte) & 0xff, 0);
  return Buffer.from([DOLLAR, ...escaped, HASH, ...Buffer.from(sum.toString(16).padStart(2, "0"))]);
}
