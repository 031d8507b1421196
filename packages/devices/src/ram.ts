/** Guest memory as devices see it. */

/** RAM by guest physical address. What a guest names is looked up, never trusted: nothing here throws. */
export interface GuestRam {
  /**
   * The bytes from `gpa` on, as one view of guest memory; undefined when any of them is not RAM. Guests change memory
   * while it is read: read a value once, check it, use that.
   */
  slice(gpa: number, length: number): Uint8Array | undefined;

  /**
   * Says that a device wrote these bytes: after the writing, before the guest is told. Dirty logs know only what vCPUs
   * write, and a processor in software must forget what it translated from there.
   */
  written(gpa: number, length: number): void;

  /** The pieces of one buffer that it is made of; undefined where it is made of something else. */
  readonly pieces?: readonly RamPiece[];

  /** Where pages of files lie among these bytes, of which a write makes a copy: emptied, they would read as the file. */
  mappedIn?(gpa: number, length: number): { readonly gpa: number; readonly length: number }[];

  /** What other programs map to see the same memory; undefined where none can. */
  readonly shared?: SharedRam | undefined;
}

/** Memory in a file: its pieces' offsets are the file's. */
export interface SharedRam {
  readonly fd: number;
  readonly pieces: readonly RamPiece[];
  /** Where offset 0 is among this process's addresses, and in the buffer. */
  readonly address: number;
  readonly start: number;
}

/** A piece of RAM: guest physical addresses from `gpa` on are the buffer's bytes from `offset` on. */
export interface RamPiece {
  gpa: number;
  sizeBytes: number;
  offset: number;
}

/** RAM made of pieces of one buffer, such as a guest's memory with the hole below 4 GiB. */
export class MappedRam implements GuestRam {
  readonly shared: SharedRam | undefined;
  readonly #buffer: ArrayBufferLike;
  readonly pieces: readonly RamPiece[];
  readonly #written: (gpa: number, length: number) => void;
  readonly #mapped: { readonly gpa: number; readonly end: number }[] = [];

  /** `written` is told of what devices write; `shared` says which of the pieces are in a file. */
  constructor(
    buffer: ArrayBufferLike,
    pieces: readonly RamPiece[],
    written: (gpa: number, length: number) => void = () => {},
    shared?: SharedRam,
  ) {
    for (const { gpa, sizeBytes, offset } of pieces) {
      if (offset < 0 || sizeBytes < 0 || offset + sizeBytes > buffer.byteLength) {
        throw new RangeError(`RAM at 0x${gpa.toString(16)} lies outside its buffer`);
      }
    }
    this.#buffer = buffer;
    this.pieces = pieces;
    this.#written = written;
    this.shared = shared;
  }

  slice(gpa: number, length: number): Uint8Array | undefined {
    for (const piece of this.pieces) {
      const start = gpa - piece.gpa;
      // A guest's address may be anything up to 2^64: inexact there, but then it is outside too.
      if (start >= 0 && length >= 0 && start + length <= piece.sizeBytes) {
        return new Uint8Array(this.#buffer, piece.offset + start, length);
      }
    }
    return undefined;
  }

  written(gpa: number, length: number): void {
    this.#written(gpa, length);
  }

  /** Pages of a file lie there from now on. */
  mapped(gpa: number, length: number): void {
    this.#mapped.push({ gpa, end: gpa + length });
  }

  mappedIn(gpa: number, length: number): { readonly gpa: number; readonly length: number }[] {
    return this.#mapped.flatMap((range) => {
      const start = Math.max(gpa, range.gpa);
      const end = Math.min(gpa + length, range.end);
      return start < end ? [{ gpa: start, length: end - start }] : [];
    });
  }
}
