/** What devices of ports and memory-mapped registers look like to a bus, and the wire by which they interrupt. */

/**
 * A range of registers. It is called in the thread of the vCPU that makes the access, which waits for the answer; what
 * takes long is left to another thread. Nothing here throws, whatever the guest does.
 */
export interface Registers {
  /** Reads `size` bytes (1, 2 or 4) at `offset` from the range's start; the bus takes the low `size` bytes of the answer. */
  read(offset: number, size: number): number;
  /** Writes the low `size` bytes (1, 2 or 4) of `value`, which is at least 0 and below 2^32. */
  write(offset: number, size: number, value: number): void;
}

/** An interrupt line. Setting it to the level that it has does nothing. */
export interface InterruptLine {
  set(high: boolean): void;
}

/** What an access reads where nothing answers: all ones, as an undriven bus. */
export function nothingThere(size: number): number {
  return size === 4 ? 0xffff_ffff : size === 2 ? 0xffff : 0xff;
}

/** Registers of one byte each: wider accesses are made of single ones, lowest address first, as an 8-bit device's bus does. */
export abstract class ByteRegisters implements Registers {
  protected abstract readByte(offset: number): number;
  protected abstract writeByte(offset: number, value: number): void;

  read(offset: number, size: number): number {
    let value = 0;
    for (let byte = 0; byte < size; byte++) value |= (this.readByte(offset + byte) & 0xff) << (8 * byte);
    return value >>> 0;
  }

  write(offset: number, size: number, value: number): void {
    for (let byte = 0; byte < size; byte++) this.writeByte(offset + byte, (value >>> (8 * byte)) & 0xff);
  }
}
