/** Pieces of memory, which together are the bytes of one transfer. */

export type Pieces = readonly Uint8Array[];

export function totalBytes(pieces: Pieces): number {
  let bytes = 0;
  for (const piece of pieces) bytes += piece.length;
  return bytes;
}

/** Views of `length` bytes from the `start`th on. */
export function cutPieces(pieces: Pieces, start: number, length: number): Uint8Array[] {
  const cut: Uint8Array[] = [];
  for (const piece of pieces) {
    if (length <= 0) break;
    if (start >= piece.length) {
      start -= piece.length;
      continue;
    }
    const part = start === 0 && length >= piece.length ? piece : piece.subarray(start, start + length);
    cut.push(part);
    length -= part.length;
    start = 0;
  }
  return cut;
}

export function fillPieces(pieces: Pieces, value: number): void {
  for (const piece of pieces) piece.fill(value);
}

/** Copies `from` into the pieces, from their `start`th byte on. */
export function scatter(from: Uint8Array, pieces: Pieces, start = 0): void {
  let done = 0;
  for (const piece of cutPieces(pieces, start, from.length)) {
    piece.set(from.subarray(done, done + piece.length));
    done += piece.length;
  }
}

/** Copies the pieces into `into`, from its `start`th byte on. */
export function gatherInto(into: Uint8Array, pieces: Pieces, start = 0): void {
  for (const piece of pieces) {
    into.set(piece, start);
    start += piece.length;
  }
}
