/** CRC-32C (Castagnoli), which VHDX guards its tables with. */

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = (byte & 1) === 0 ? byte >>> 1 : (byte >>> 1) ^ 0x82f63b78;
  return byte >>> 0;
});

/** Of `bytes`, with the four bytes at `zeroed`, which hold the checksum, taken as zeros. */
export function crc32c(bytes: Uint8Array, zeroed: number): number {
  let crc = 0xffffffff;
  for (let at = 0; at < bytes.length; at++) {
    const value = at >= zeroed && at < zeroed + 4 ? 0 : bytes[at]!;
    crc = TABLE[(crc ^ value) & 0xff]! ^ (crc >>> 8);
  }
  return ~crc >>> 0;
}
