/**
 * RCPPS and RSQRTPS: Intel SDM vol. 2. They raise nothing, and what is denormal, operand or result, is a zero to them. The
 * results are looked up by the upper bits of the operand. Tried with every operand on an Intel Xeon of model 167, these
 * tables hold the result for the middle of the operands that share an entry, rounded to 12 bits behind the point. (AMD's
 * processors have other tables.)
 */

const SIGN = 0x80000000;
const INFINITY = 0x7f800000;
const INDEFINITE = 0xffc00000;
const QUIET = 0x00400000;
const LEAST = 0x00800000;

const view = new DataView(new ArrayBuffer(4));

function toFloat(bits: number): number {
  view.setUint32(0, bits);
  return view.getFloat32(0);
}

function fromFloat(value: number): number {
  view.setFloat32(0, value);
  return view.getUint32(0);
}

/** The encoded result, as the emitted code has it where nothing is out of the ordinary. */
export function approximate(bits: number, root: boolean): number {
  const sign = (bits & SIGN) >>> 0;
  const magnitude = bits & ~SIGN;
  if (magnitude > INFINITY) return (bits | QUIET) >>> 0;
  if (magnitude < LEAST) return (sign | INFINITY) >>> 0;
  if (root && sign !== 0) return INDEFINITE;
  if (magnitude === INFINITY) return sign;
  // 11 bits tell apart reciprocals within a power of 2, and reciprocal roots within two.
  const middle = toFloat(root ? (bits & ~0x1fff) | 0x1000 : (bits & ~0xfff) | 0x800);
  const result = fromFloat(root ? 1 / Math.fround(Math.sqrt(middle)) : 1 / middle);
  if ((result & ~SIGN) < LEAST) return sign;
  // No entry is half-way between two of 12 bits, but rounded to a float two reciprocals seem so: the one with an odd
  // number lies above.
  const half = root ? 0x400 : 0x3ff + ((bits >> 12) & 1);
  return ((result + half) & 0xfffff800) >>> 0;
}
