/**
 * The common half of what reaches the vector unit: normal numbers, rounded to nearest, of which it has to be known only
 * whether the result is exact. The host's own arithmetic tells that, by what it leaves over (T. J. Dekker, "A
 * floating-point technique for extending the available precision", 1971). A program that has not been inexact yet has
 * all its arithmetic here: some 30 times as fast as with integers of any size.
 */

import type { Format } from "./format.ts";
import { UnitOperation } from "./operations.ts";

/** Below and above these magnitudes, splitting products might overflow or underflow. */
const SMALL = 2 ** -450;
const LARGE = 2 ** 450;
/** The largest single, and the least normal one. */
const SINGLE_LARGE = 2 ** 127;
const SINGLE_SMALL = 2 ** -126;

/** Splits a double into halves whose products are exact. */
const SPLIT = 2 ** 27 + 1;

/** What rounding took from the product of two doubles. */
function productError(a: number, b: number, product: number): number {
  const bigA = SPLIT * a;
  const highA = bigA - (bigA - a);
  const lowA = a - highA;
  const bigB = SPLIT * b;
  const highB = bigB - (bigB - b);
  const lowB = b - highB;
  return lowA * lowB - (product - highA * highB - lowA * highB - highA * lowB);
}

function sumError(a: number, b: number, sum: number): number {
  const second = sum - a;
  return a - (sum - second) + (b - second);
}

const inRange = (a: number, small: number, large: number): boolean => {
  const magnitude = Math.abs(a);
  return magnitude > small && magnitude < large;
};

export class QuickArithmetic {
  /** Of the last result: it is not exact. */
  inexact = false;

  /** The result as a number, or undefined where there may be more to it. */
  compute(operation: number, { bytes }: Format, a: number, b: number): number | undefined {
    const single = bytes === 4;
    const small = single ? SINGLE_SMALL : SMALL;
    const large = single ? SINGLE_LARGE : LARGE;
    const fits = (value: number) => value === 0 || inRange(value, small, large);
    if (!fits(b) || (operation !== UnitOperation.SQRT && !fits(a))) return undefined;
    const result = single ? this.#single(operation, a, b) : this.#double(operation, a, b);
    if (result === undefined) return undefined;
    if (result !== 0) return inRange(result, small, large) ? result : undefined;
    // A sum of 0 is exact; a product or quotient may have become too small.
    const isSum = operation === UnitOperation.ADD || operation === UnitOperation.SUB;
    return isSum || a === 0 || b === 0 ? result : undefined;
  }

  /** Sums, products and quotients of singles are compared with those of doubles, where products are exact. */
  #single(operation: number, a: number, b: number): number | undefined {
    switch (operation) {
      case UnitOperation.ADD:
        return this.#roundedSum(a, b);
      case UnitOperation.SUB:
        return this.#roundedSum(a, -b);
      case UnitOperation.MUL: {
        const product = a * b;
        const result = Math.fround(product);
        this.inexact = result !== product;
        return result;
      }
      case UnitOperation.DIV: {
        const result = Math.fround(a / b);
        this.inexact = result * b !== a;
        return result;
      }
      case UnitOperation.SQRT: {
        const result = Math.fround(Math.sqrt(b));
        this.inexact = result * result !== b;
        return result;
      }
      default:
        return undefined;
    }
  }

  #roundedSum(a: number, b: number): number {
    const sum = a + b;
    // Rounding a rounded sum again gives the same as rounding once: a double has more than twice a single's bits.
    const result = Math.fround(sum);
    this.inexact = result !== sum || sumError(a, b, sum) !== 0;
    return result;
  }

  #double(operation: number, a: number, b: number): number | undefined {
    switch (operation) {
      case UnitOperation.ADD: {
        const sum = a + b;
        this.inexact = sumError(a, b, sum) !== 0;
        return sum;
      }
      case UnitOperation.SUB: {
        const difference = a - b;
        this.inexact = sumError(a, -b, difference) !== 0;
        return difference;
      }
      case UnitOperation.MUL: {
        const product = a * b;
        this.inexact = productError(a, b, product) !== 0;
        return product;
      }
      case UnitOperation.DIV: {
        const quotient = a / b;
        const product = quotient * b;
        this.inexact = product !== a || productError(quotient, b, product) !== 0;
        return quotient;
      }
      case UnitOperation.SQRT: {
        const root = Math.sqrt(b);
        const square = root * root;
        this.inexact = square !== b || productError(root, root, square) !== 0;
        return root;
      }
      default:
        return undefined;
    }
  }
}
