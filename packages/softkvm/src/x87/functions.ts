/**
 * Elementary functions of fixed-point numbers: integers that stand for themselves over `2 ** bits`. Results are off by a
 * few units, so callers choose `bits` well beyond what they keep.
 */

/** Of pi and of the natural logarithm of 2, as many fraction bits as the hexadecimal digits give. */
const CONSTANT_BITS = 352;
const PI = 0x3243f6a8885a308d313198a2e03707344a4093822299f31d0082efa98ec4e6c89452821e638d01377be5466cfn;
const LN2 = 0x0b17217f7d1cf79abc9e3b39803f2f6af40f343267298b62d8a0d175b8baafa2be7b876206debac98559552fbn;

export const pi = (bits: number): bigint => PI >> BigInt(CONSTANT_BITS - bits);
export const ln2 = (bits: number): bigint => LN2 >> BigInt(CONSTANT_BITS - bits);

/** `e ** x - 1` for |x| up to 1. */
export function expm1(x: bigint, bits: number): bigint {
  const shift = BigInt(bits);
  let sum = 0n;
  let term = x;
  for (let n = 2n; term !== 0n && term !== -1n; n++) {
    sum += term;
    term = ((term * x) >> shift) / n;
  }
  return sum;
}

/** The inverse hyperbolic tangent of a small number. */
export function atanh(x: bigint, bits: number): bigint {
  return oddSeries(x, (x * x) >> BigInt(bits), bits);
}

/** The inverse tangent of a small number. */
export function atanSmall(x: bigint, bits: number): bigint {
  return oddSeries(x, -((x * x) >> BigInt(bits)), bits);
}

/** `x + x * square / 3 + x * square ** 2 / 5 ...` */
function oddSeries(x: bigint, square: bigint, bits: number): bigint {
  const shift = BigInt(bits);
  let sum = 0n;
  let power = x;
  for (let n = 1n; power !== 0n && power !== -1n; n += 2n) {
    sum += power / n;
    power = (power * square) >> shift;
  }
  return sum;
}

/** Sine and cosine for |x| up to 1. */
export function sineCosine(x: bigint, bits: number): { sine: bigint; cosine: bigint } {
  const shift = BigInt(bits);
  const square = (x * x) >> shift;
  const series = (first: bigint, from: bigint): bigint => {
    let sum = 0n;
    let term = first;
    for (let n = from; term !== 0n && term !== -1n; n += 2n) {
      sum += term;
      term = -((term * square) >> shift) / (n * (n + 1n));
    }
    return sum;
  };
  return { sine: series(x, 2n), cosine: series(1n << shift, 1n) };
}
