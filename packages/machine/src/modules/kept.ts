/**
 * What became of modules, kept in one file: a list of where each is, then what the engine compiled of them and their texts. Nothing of it counts that does not fit the engine, the place of the packages, or a source's time and size.
 */

import { closeSync, fstatSync, readSync } from "node:fs";
import { join } from "node:path";
import { cachedDataVersionTag } from "node:v8";
import { CacheFiles } from "../cache-files.ts";

export interface Kept {
  readonly path: string;
  readonly mtimeMs: number;
  readonly bytes: number;
  readonly code: string;
  readonly compiled: Uint8Array;
}

/** Lengths are in bytes; `wide`: the text has characters beyond Latin-1, and is UTF-16. */
interface Entry {
  readonly path: string;
  readonly mtimeMs: number;
  readonly bytes: number;
  readonly wide: boolean;
  readonly offset: number;
  readonly code: number;
  readonly compiled: number;
}

interface Head {
  readonly packages: string;
  readonly entries: readonly Entry[];
}

/** Of another number a file is another one. */
const FORMAT = 3;

/** Each command and each kind of thread has one, in each place where there is a Lodge. */
const MOST_FILES = 64;

/** Before the head: its length. Offsets count from the head's end. */
const PREFIX_BYTES = 8;

/** What the engine compiled is used where it lies if that is a multiple of this, and copied elsewhere. */
const ALIGNMENT = 8;
const aligned = (bytes: number) => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
const sizeOf = ({ code, compiled }: Pick<Entry, "code" | "compiled">) => aligned(compiled) + aligned(code);

/** Modules lie in the order in which they are loaded: as much is read at once. */
const WINDOW_BYTES = 2 ** 18;

export class KeptModules {
  /** What the engine knows its compiled code by. */
  readonly engine = cachedDataVersionTag();
  readonly #files: CacheFiles;
  readonly #name: string;
  readonly #packages: string;
  readonly #entries = new Map<string, Entry>();
  /** The file that the entries are of: it may have another name by now, or none. */
  #open: { readonly fd: number; readonly bodyOffset: number } | undefined;
  /** What was read of the file last, from this offset on. */
  #window = Buffer.alloc(0);
  #windowOffset = 0;

  /** `packages`: the folder of the sources. */
  static open(folder: string, set: string, packages: string): KeptModules {
    return new KeptModules(folder, `${set}-${digest(packages)}`, packages);
  }

  private constructor(folder: string, name: string, packages: string) {
    const engine = `lodge-${FORMAT}-${process.version}-${process.arch}-${this.engine.toString(16)}`;
    this.#files = new CacheFiles(join(folder, engine), MOST_FILES);
    this.#name = name;
    this.#packages = packages;
    this.#read();
  }

  /** `compiled` lasts until the next one is asked for. */
  get(path: string, mtimeMs: number, bytes: number): Pick<Kept, "code" | "compiled"> | undefined {
    const entry = this.#entries.get(path);
    if (entry === undefined || entry.mtimeMs !== mtimeMs || entry.bytes !== bytes) return undefined;
    return this.#at(entry);
  }

  /** Adds these to what the file has by now. Where it cannot be written, nothing is kept. */
  add(more: readonly Kept[]): void {
    this.#read();
    const added = new Set(more.map(({ path }) => path));
    const before = [...this.#entries.values()].filter(({ path }) => !added.has(path));
    const parts: Uint8Array[] = [];
    const entries: Entry[] = [];
    let offset = 0;
    for (const { path, mtimeMs, bytes, code, compiled } of [...before.map((entry) => this.#copy(entry)), ...more]) {
      const wide = /[^\0-\xff]/.test(code);
      const text = Buffer.from(code, wide ? "utf16le" : "latin1");
      const entry: Entry = { path, mtimeMs, bytes, wide, offset, code: text.length, compiled: compiled.length };
      const part = new Uint8Array(sizeOf(entry));
      part.set(compiled);
      part.set(text, aligned(compiled.length));
      parts.push(part);
      entries.push(entry);
      offset += part.length;
    }
    const head = Buffer.from(JSON.stringify({ packages: this.#packages, entries } satisfies Head));
    const prefix = Buffer.alloc(PREFIX_BYTES);
    prefix.writeUInt32LE(head.length);
    prefix.writeUInt32LE(offset, 4);
    this.#files.keep(this.#name, Buffer.concat([prefix, head, ...parts]));
  }

  #copy(entry: Entry): Kept {
    const { code, compiled } = this.#at(entry);
    return { ...entry, code, compiled: compiled.slice() };
  }

  #at(entry: Entry): Pick<Kept, "code" | "compiled"> {
    const { offset, wide, compiled } = entry;
    const size = sizeOf(entry);
    if (offset < this.#windowOffset || offset + size > this.#windowOffset + this.#window.length) {
      const { fd, bodyOffset } = this.#open!;
      if (this.#window.length < size) this.#window = Buffer.allocUnsafeSlow(Math.max(WINDOW_BYTES, size));
      readSync(fd, this.#window, 0, this.#window.length, bodyOffset + offset);
      this.#windowOffset = offset;
    }
    const at = offset - this.#windowOffset;
    const text = at + aligned(compiled);
    return {
      code: this.#window.toString(wide ? "utf16le" : "latin1", text, text + entry.code),
      // No Buffer, whose slice would be no copy.
      compiled: new Uint8Array(this.#window.buffer, this.#window.byteOffset + at, compiled),
    };
  }

  #read(): void {
    this.#entries.clear();
    if (this.#open !== undefined) closeSync(this.#open.fd);
    this.#open = undefined;
    this.#window = Buffer.alloc(0);
    const fd = this.#files.open(this.#name);
    if (fd === undefined) return;
    try {
      const prefix = Buffer.alloc(PREFIX_BYTES);
      readSync(fd, prefix);
      const headBytes = prefix.readUInt32LE();
      const bodyOffset = PREFIX_BYTES + headBytes;
      // One that is not whole is none; nor is that of others whose place has the same digest.
      if (fstatSync(fd).size !== bodyOffset + prefix.readUInt32LE(4)) throw new Error("cut off");
      const head = Buffer.alloc(headBytes);
      readSync(fd, head);
      const { packages, entries }: Head = JSON.parse(head.toString());
      if (packages !== this.#packages) throw new Error("of another place");
      this.#open = { fd, bodyOffset };
      for (const entry of entries) this.#entries.set(entry.path, entry);
    } catch {
      // It does not count: it will be written anew.
      closeSync(fd);
    }
  }
}

/** FNV-1a: Node's own digests take 10 ms to load. Who has the same for another place sees that in the file. */
function digest(text: string): string {
  let hash = 0x811c9dc5;
  for (let index = 0; index < text.length; index++) hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193);
  return (hash >>> 0).toString(16);
}
