/** Small kernels for tests: an ELF file around some machine code. */

export interface ElfOptions {
  /** Where the code is loaded and entered. Default: 1 MiB. */
  readonly address?: number;
  /** Notes, as they stand in a PT_NOTE segment. */
  readonly notes?: Uint8Array;
}

/** A 64-bit ELF executable of one segment. */
export function elf64(code: Uint8Array, { address = 0x100000, notes }: ElfOptions = {}): Uint8Array {
  const headers = notes === undefined ? 1 : 2;
  const codeAt = 64 + headers * 56;
  const notesAt = codeAt + code.length;
  const file = new Uint8Array(notesAt + (notes?.length ?? 0));
  const view = new DataView(file.buffer);
  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(16, 2, true);
  view.setUint16(18, 62, true);
  view.setUint32(20, 1, true);
  view.setBigUint64(24, BigInt(address), true);
  view.setBigUint64(32, 64n, true);
  view.setUint16(52, 64, true);
  view.setUint16(54, 56, true);
  view.setUint16(56, headers, true);
  const header = (index: number, type: number, offset: number, length: number) => {
    const at = 64 + index * 56;
    view.setUint32(at, type, true);
    view.setUint32(at + 4, 7, true);
    view.setBigUint64(at + 8, BigInt(offset), true);
    view.setBigUint64(at + 16, BigInt(address), true);
    view.setBigUint64(at + 24, BigInt(address), true);
    view.setBigUint64(at + 32, BigInt(length), true);
    view.setBigUint64(at + 40, BigInt(length), true);
    view.setBigUint64(at + 48, 4n, true);
  };
  header(0, 1, codeAt, code.length);
  file.set(code, codeAt);
  if (notes !== undefined) {
    header(1, 4, notesAt, notes.length);
    file.set(notes, notesAt);
  }
  return file;
}

/** A 32-bit ELF executable of one segment, whose code lies `codeOffset` behind its start (a Multiboot header before it). */
export function elf32(code: Uint8Array, codeOffset = 0, address = 0x100000): Uint8Array {
  const file = new Uint8Array(84 + code.length);
  const view = new DataView(file.buffer);
  file.set([0x7f, 0x45, 0x4c, 0x46, 1, 1, 1]);
  view.setUint16(16, 2, true);
  view.setUint16(18, 3, true);
  view.setUint32(20, 1, true);
  view.setUint32(24, address + codeOffset, true);
  view.setUint32(28, 52, true);
  view.setUint16(40, 52, true);
  view.setUint16(42, 32, true);
  view.setUint16(44, 1, true);
  const fields = [1, 84, address, address, code.length, code.length, 7, 4];
  for (const [index, value] of fields.entries()) view.setUint32(52 + index * 4, value, true);
  file.set(code, 84);
  return file;
}
