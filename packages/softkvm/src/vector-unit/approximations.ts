/**
 * RCPPS and RSQRTPS of single floats, where the emitted code leaves them: Intel SDM vol. 2. They raise nothing, and what
 * is denormal, operand or result, is a zero to them.
 */

const SIGN = 0x80000000;
const INFINITY = 0x7f800000;
const INDEFINITE = 0xffc00000;
const QUIET = 0x00400000;
const LEAST = 0x00800000;

const view = new DataView(new ArrayBuffer(4));

function fromFloat(value: number): number {
  view.setFloat32(0, value);
  return view.getUint32(0);
}

/** The encoded result; 12 bits behind the point, as in the emitted code. */
export function approximate(bits: number, root: boolean): number {
  const sign = (bits & SIGN) >>> 0;
  const magnitude = bits & ~SIGN;
  if (magnitude > INFINITY) return (bits | QUIET) >>> 0;
  if (magnitude < LEAST) return (sign | INFINITY) >>> 0;
  if (root && sign !== 0) return INDEFINITE;
  if (magnitude === INFINITY) return sign;
  view.setUint32(0, bits);
  const value = view.getFloat32(0);
  const exact = fromFloat(root ? 1 / Math.fround(Math.sqrt(value)) : 1 / value);
  if ((exact & ~SIGN) < LEAST) return sign;
  return ((exact + 0x400) & 0xfffff800) >>> 0;
}
