/** A WebAssembly module as it is built: types, imports, functions, exports (core specification, 5.5). */

import { Bytes } from "./bytes.ts";
import { Code, type Hint } from "./code.ts";
import { typeCode, type ValueType } from "./expr.ts";

export interface FunctionType {
  readonly parameters: readonly ValueType[];
  readonly results: readonly ValueType[];
}

const CompilationHint = { LAZY: 1, OPTIMIZED: 2 } as const;

interface Import {
  readonly module: string;
  readonly name: string;
  readonly describe: (out: Bytes) => void;
}

export class ModuleBuilder {
  readonly #types: FunctionType[] = [];
  readonly #typeIndexes = new Map<string, number>();
  readonly #imports: Import[] = [];
  readonly #functions: { type: number; code: Code }[] = [];
  readonly #exports: { name: string; kind: number; index: number }[] = [];
  readonly #elements: { slot: number; functions: number[] }[] = [];
  readonly #memories: number[] = [];
  #importedFunctions = 0;

  /** The index of a function type; equal ones share it. */
  type(parameters: readonly ValueType[], results: readonly ValueType[]): number {
    const key = `${parameters.join()}:${results.join()}`;
    const known = this.#typeIndexes.get(key);
    if (known !== undefined) return known;
    this.#typeIndexes.set(key, this.#types.length);
    return this.#types.push({ parameters, results }) - 1;
  }

  /** Imports a function and returns its index. Imports come before functions are added. */
  importFunction(
    module: string,
    name: string,
    parameters: readonly ValueType[],
    results: readonly ValueType[],
  ): number {
    if (this.#functions.length > 0) throw new Error("functions are imported before any is defined");
    const type = this.type(parameters, results);
    this.#imports.push({
      module,
      name,
      describe: (out) => {
        out.byte(0x00);
        out.u32(type);
      },
    });
    return this.#importedFunctions++;
  }

  /** Imports memory 0: shared, with limits in pages of 64 KiB. */
  importMemory(module: string, name: string, minPages: number, maxPages: number): void {
    this.#imports.push({
      module,
      name,
      describe: (out) => {
        out.byte(0x02);
        out.byte(0x03);
        out.u32(minPages);
        out.u32(maxPages);
      },
    });
  }

  /** Gives the module a memory 0 of its own, of so many pages of 64 KiB. */
  ownMemory(pages: number): void {
    this.#memories.push(pages);
  }

  exportMemory(name: string): void {
    this.#exports.push({ name, kind: 0x02, index: 0 });
  }

  /** Imports table 0, of functions. */
  importTable(module: string, name: string, minimum: number): void {
    this.#imports.push({
      module,
      name,
      describe: (out) => {
        out.byte(0x01);
        out.byte(0x70);
        out.byte(0x00);
        out.u32(minimum);
      },
    });
  }

  /** Adds a function and returns its index and its body to be filled in before {@link encode}. */
  function(parameters: readonly ValueType[], results: readonly ValueType[]): { index: number; code: Code } {
    const code = new Code(parameters);
    const position = this.#functions.push({ type: this.type(parameters, results), code }) - 1;
    return { index: this.#importedFunctions + position, code };
  }

  exportFunction(name: string, index: number): void {
    this.#exports.push({ name, kind: 0x00, index });
  }

  /** Puts functions into table 0 from `slot` on when the module is instantiated. */
  elements(slot: number, functions: number[]): void {
    this.#elements.push({ slot, functions });
  }

  /** `optimized`: each function by the engine's optimizing compiler when it is called first, where the engine goes by that. */
  encode({ optimized = false } = {}): Uint8Array<ArrayBuffer> {
    const out = new Bytes();
    out.append(new Uint8Array([0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00]));
    section(out, 1, this.#types, (body, type) => {
      body.byte(0x60);
      for (const list of [type.parameters, type.results]) {
        body.u32(list.length);
        for (const item of list) body.byte(typeCode[item]);
      }
    });
    section(out, 2, this.#imports, (body, item) => {
      body.name(item.module);
      body.name(item.name);
      item.describe(body);
    });
    section(out, 3, this.#functions, (body, item) => body.u32(item.type));
    if (optimized) this.#writeTiers(out);
    section(out, 5, this.#memories, (body, pages) => {
      body.byte(0x00);
      body.u32(pages);
    });
    section(out, 7, this.#exports, (body, item) => {
      body.name(item.name);
      body.byte(item.kind);
      body.u32(item.index);
    });
    section(out, 9, this.#elements, (body, item) => {
      body.u32(0);
      body.byte(0x41);
      body.s32(item.slot);
      body.byte(0x0b);
      body.u32(item.functions.length);
      for (const index of item.functions) body.u32(index);
    });
    const bodies = this.#functions.map(({ code }) => code.encode());
    this.#writeHints(out, bodies);
    section(out, 10, bodies, (section, { body }) => {
      section.u32(body.length);
      section.append(body);
    });
    return out.view().slice();
  }

  /**
   * The section of V8's `--experimental-wasm-compilation-hints`, a byte for each function: when it is compiled in bits 0 and 1, with
   * what at first in bits 2 and 3, and in the end in bits 4 and 5. It comes between the functions' types and their code;
   * engines that do not know it ignore it.
   */
  #writeTiers(out: Bytes): void {
    const section = new Bytes();
    section.name("compilationHints");
    section.u32(this.#functions.length);
    const { LAZY, OPTIMIZED } = CompilationHint;
    for (let left = this.#functions.length; left > 0; left--) section.byte(LAZY | (OPTIMIZED << 2) | (OPTIMIZED << 4));
    out.byte(0);
    out.u32(section.length);
    out.append(section.view());
  }

  /** The branch hinting proposal's section, which engines that do not know it ignore. It comes before the code. */
  #writeHints(out: Bytes, bodies: readonly { readonly hints: readonly Hint[] }[]): void {
    const hinted = bodies.flatMap(({ hints }, position) => (hints.length > 0 ? [{ hints, position }] : []));
    if (hinted.length === 0) return;
    const section = new Bytes();
    section.name("metadata.code.branch_hint");
    section.u32(hinted.length);
    for (const { hints, position } of hinted) {
      section.u32(this.#importedFunctions + position);
      section.u32(hints.length);
      for (const { offset, likely } of hints) {
        section.u32(offset);
        section.u32(1);
        section.byte(likely ? 1 : 0);
      }
    }
    out.byte(0);
    out.u32(section.length);
    out.append(section.view());
  }
}

/** A section is left out when it is empty. */
function section<T>(out: Bytes, id: number, items: readonly T[], write: (body: Bytes, item: T) => void): void {
  if (items.length === 0) return;
  const body = new Bytes();
  body.u32(items.length);
  for (const item of items) write(body, item);
  out.byte(id);
  out.u32(body.length);
  out.append(body.view());
}
