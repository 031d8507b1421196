/** The data of a client's options, checked before use. The layouts stand in the specification's "Option types". */

import { StorageError } from "../../errors.ts";
import { MAX_STRING_BYTES } from "../protocol.ts";

/** The data does not fit its own lengths: answered NBD_REP_ERR_INVALID. */
export class InvalidOption extends StorageError {
  constructor(message: string) {
    super("STORAGE_IO", message);
  }
}

/** Takes fields from the front, and never more than there is. */
class Fields {
  readonly #data: Buffer;
  #at = 0;

  constructor(data: Buffer) {
    this.#data = data;
  }

  u16(): number {
    return this.#bytes(2).readUInt16BE();
  }

  u32(): number {
    return this.#bytes(4).readUInt32BE();
  }

  /** A u32 of its length, then the text. */
  string(): string {
    const length = this.u32();
    if (length > MAX_STRING_BYTES)
      throw new InvalidOption(`a string of ${length} bytes; ${MAX_STRING_BYTES} is the most`);
    return this.#bytes(length).toString("utf8");
  }

  end(): void {
    if (this.#at !== this.#data.length) throw new InvalidOption(`${this.#data.length - this.#at} bytes too many`);
  }

  #bytes(length: number): Buffer {
    if (length > this.#data.length - this.#at) throw new InvalidOption("the option ends before its data");
    this.#at += length;
    return this.#data.subarray(this.#at - length, this.#at);
  }
}

/** NBD_OPT_INFO and NBD_OPT_GO: the export, and what is asked for of it. */
export function parseGo(data: Buffer): { name: string; wanted: ReadonlySet<number> } {
  const fields = new Fields(data);
  const name = fields.string();
  const wanted = new Set<number>();
  for (let left = fields.u16(); left > 0; left--) wanted.add(fields.u16());
  fields.end();
  return { name, wanted };
}

/** NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT. */
export function parseContextQueries(data: Buffer): { name: string; queries: string[] } {
  const fields = new Fields(data);
  const name = fields.string();
  const queries: string[] = [];
  // Each query has four bytes at least, so the data bounds their number.
  for (let left = fields.u32(); left > 0; left--) queries.push(fields.string());
  fields.end();
  return { name, queries };
}
