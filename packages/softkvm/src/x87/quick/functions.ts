/** The functions of this folder, by the names that code calls them by, through slots of the handlers' table. */

import type { FunctionType, ModuleBuilder } from "../../wasm/module.ts";
import { add, compare, divide, multiply, squareRoot, subtract } from "./arithmetic.ts";
import { roundToIntegral, toDouble, toInteger, toSingle } from "./conversions.ts";
import type { X87Body } from "./value.ts";

const bodies = {
  ...{ add, subtract, multiply, divide, squareRoot, compare },
  ...{ roundToIntegral, toDouble, toSingle, toInteger },
} satisfies Record<string, X87Body>;
export type X87Function = keyof typeof bodies;

const names = Object.keys(bodies) as X87Function[];
export const X87_FUNCTIONS = names.length;
export const x87FunctionNumber = (name: X87Function): number => names.indexOf(name);
/** Addresses of two operands and of room for the result, and the control word, to what to add to the status word. */
export const X87_FUNCTION_TYPE: FunctionType = { parameters: ["i32", "i32", "i32", "i32"], results: ["i32"] };

/** Adds the functions to a module, which has the registers in its memory, in the order of their numbers. */
export function addX87Functions(module: ModuleBuilder): number[] {
  return names.map((name) => {
    const { index, code } = module.function(X87_FUNCTION_TYPE.parameters, X87_FUNCTION_TYPE.results);
    const [a, b, to, control] = code.parameters as never as [never, never, never, never];
    bodies[name](code, { a, b, to, control });
    code.unreachable();
    return index;
  });
}
