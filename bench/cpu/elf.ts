/** Programs as gcc links them: 64-bit ELF, loaded where they say. */

const ELF = { entry: 24, programHeaders: 32, headerSize: 54, headerCount: 56 } as const;
const PROGRAM = { type: 0, offset: 8, physical: 24, fileSize: 32, memorySize: 40 } as const;
const LOAD = 1;

const viewOf = (file: Uint8Array) => new DataView(file.buffer, file.byteOffset, file.byteLength);

/** Where the program begins: the same address as its PVH note's. */
export function entryOf(file: Uint8Array): number {
  return Number(viewOf(file).getBigUint64(ELF.entry, true));
}

/** Copies a program's segments to memory that is all zeros. */
export function loadElf(file: Uint8Array, memory: Uint8Array): void {
  const view = viewOf(file);
  const number = (at: number) => Number(view.getBigUint64(at, true));
  const size = view.getUint16(ELF.headerSize, true);
  for (let index = 0; index < view.getUint16(ELF.headerCount, true); index++) {
    const at = number(ELF.programHeaders) + index * size;
    if (view.getUint32(at + PROGRAM.type, true) !== LOAD) continue;
    const offset = number(at + PROGRAM.offset);
    memory.set(file.subarray(offset, offset + number(at + PROGRAM.fileSize)), number(at + PROGRAM.physical));
  }
}
