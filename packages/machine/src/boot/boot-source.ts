/** What a machine boots from: bytes in memory, or a file of which no more is read than is needed, into its place. */

export interface BootSource {
  readonly sizeBytes: number;
  /** Fills `target` with what there is from `offset` on; throws when there is not as much. */
  read(target: Uint8Array, offset: number): void;
  /**
   * A name of the content, which no other content has at any time; undefined when that cannot be said without reading all
   * of it.
   */
  readonly identity?: string | undefined;
  /**
   * Lays its pages over `target`, which are whole pages of private memory without a file: they are read when they are touched,
   * and copied when they are written. Only where nobody changes the content.
   */
  map?(target: Uint8Array, offset: number): void;
  /** As `read`, into bytes that are zeros: what it has no bytes of, such as a file's holes, is not touched. */
  readOverZeros?(target: Uint8Array, offset: number): void;
}

export type BootContent = Uint8Array | BootSource;

export function sourceOf(content: BootContent): BootSource {
  return content instanceof Uint8Array ? new BytesSource(content) : content;
}

/** All of a source's bytes. */
export function wholeOf(source: BootSource): Uint8Array {
  return source instanceof BytesSource ? source.bytes : pieceOf(source, 0, source.sizeBytes);
}

/** A piece that the source has. */
export function pieceOf(source: BootSource, offset: number, length: number): Uint8Array {
  if (source instanceof BytesSource) return source.bytes.subarray(offset, offset + length);
  const bytes = new Uint8Array(length);
  source.read(bytes, offset);
  return bytes;
}

class BytesSource implements BootSource {
  readonly bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  get sizeBytes(): number {
    return this.bytes.length;
  }

  read(target: Uint8Array, offset: number): void {
    if (offset + target.length > this.bytes.length) throw new RangeError("there are fewer bytes than are to be read");
    target.set(this.bytes.subarray(offset, offset + target.length));
  }
}
