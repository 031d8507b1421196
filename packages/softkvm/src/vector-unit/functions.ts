/**
 * Functions of vectors that are too long to be written into every handler: WebAssembly of their own, with tables in a
 * memory of their own, reached through slots of the handlers' table. Each takes three vectors and gives one.
 */

import type { Code } from "../wasm/code.ts";
import type { V128 } from "../wasm/expr.ts";
import { type FunctionType, ModuleBuilder } from "../wasm/module.ts";
import { AES_TABLES, aesFunctions } from "./aes.ts";
import { carrylessProduct } from "./carryless.ts";
import { CRC_TABLES, crcFunctions } from "./crc.ts";
import { shaFunctions } from "./sha.ts";

/** Writes the body of a function of the vectors `a`, `b` and `third`, up to its `return`. */
export type FunctionBody = (code: Code, a: V128, b: V128, third: V128) => void;

const bodies = {
  ...aesFunctions,
  carrylessProduct,
  ...crcFunctions,
  ...shaFunctions,
} satisfies Record<string, FunctionBody>;
export type VectorFunction = keyof typeof bodies;

const names = Object.keys(bodies) as VectorFunction[];
export const VECTOR_FUNCTIONS = names.length;
export const vectorFunctionNumber = (name: VectorFunction): number => names.indexOf(name);
export const VECTOR_FUNCTION_TYPE: FunctionType = { parameters: ["v128", "v128", "v128"], results: ["v128"] };

/** The functions, in the order of their numbers. */
export function vectorFunctions(): WebAssembly.ExportedFunction[] {
  const { parameters, results } = VECTOR_FUNCTION_TYPE;
  const module = new ModuleBuilder();
  module.ownMemory(1);
  module.exportMemory("memory");
  for (const name of names) {
    const { index, code } = module.function(parameters, results);
    const [a, b, third] = code.parameters as unknown as [V128, V128, V128];
    bodies[name](code, a, b, third);
    code.unreachable();
    module.exportFunction(name, index);
  }
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(module.encode()));
  const words = new Uint32Array((exports.memory as WebAssembly.Memory).buffer);
  for (const { at, words: table } of [...AES_TABLES, ...CRC_TABLES]) words.set(table, at / 4);
  return names.map((name) => exports[name] as WebAssembly.ExportedFunction);
}
