/** The functions of this folder, for vector-unit/functions.ts. */

import { add, compare, divide, multiply, squareRoot } from "./arithmetic.ts";
import { fromDouble, fromInteger, fromSingle, roundToIntegral, toDouble, toInteger, toSingle } from "./conversions.ts";

export const x87Functions = {
  x87Add: add,
  x87Multiply: multiply,
  x87Divide: divide,
  x87SquareRoot: squareRoot,
  x87Compare: compare,
  x87RoundToIntegral: roundToIntegral,
  x87ToDouble: toDouble,
  x87ToSingle: toSingle,
  x87ToInteger: toInteger,
  x87FromDouble: fromDouble,
  x87FromSingle: fromSingle,
  x87FromInteger: fromInteger,
};
