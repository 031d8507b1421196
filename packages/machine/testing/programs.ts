/** Machine code for small kernels: written once for 64-bit and 32-bit entries, as these instructions are the same in both. */

/** `mov al, value; mov dx, port; out dx, al` */
export function out(port: number, value: number): number[] {
  return [0xb0, value, 0x66, 0xba, port & 0xff, port >> 8, 0xee];
}

/** Writes a text to a port, byte by byte. */
export function say(port: number, text: string): number[] {
  return Array.from(new TextEncoder().encode(text)).flatMap((byte) => out(port, byte));
}

/** `cli; hlt` and around again. */
export const HALT = [0xfa, 0xf4, 0xeb, 0xfc];

/** `jmp .` */
export const SPIN = [0xeb, 0xfe];

/** `mov dx, port; in al, dx` */
export function input(port: number): number[] {
  return [0x66, 0xba, port & 0xff, port >> 8, 0xec];
}

/** Waits until a port's bits are set, then takes a byte from another and sends it on to a third. */
export function echo(status: number, bit: number, from: number, to: number): number[] {
  // again: in al, dx; test al, bit; jz again
  const wait = [...input(status), 0xa8, bit, 0x74, 0xf7 - 2];
  return [...wait, ...input(from), 0x66, 0xba, to & 0xff, to >> 8, 0xee];
}
