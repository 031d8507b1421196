/**
 * A WebAssembly module of handlers or of a region, on its way from the guest that it was written in to later ones: its bytes, and what
 * the host's engine has made of them, where it gives that away. That is optimized code of what ran often, which a later guest would
 * have to run as often by the baseline compiler's first.
 */

import type { Engine } from "../machine/code-store.ts";

const NOTHING = new Uint8Array();

export class ModuleCode {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Of an instance, by which the engine is asked what it has optimized. */
  functions: Iterable<unknown> = [];
  /** What there was of an earlier guest's is not of this engine. */
  isRefused = false;
  readonly #saved: Uint8Array<ArrayBuffer>;
  #module: WebAssembly.Module | undefined;

  constructor(
    bytes: Uint8Array<ArrayBuffer>,
    { module, saved = NOTHING }: { module?: WebAssembly.Module; saved?: Uint8Array<ArrayBuffer> } = {},
  ) {
    this.bytes = bytes;
    this.#module = module;
    this.#saved = saved;
  }

  module(engine: Engine | undefined): WebAssembly.Module {
    if (this.#module === undefined && this.#saved.length > 0 && engine !== undefined) {
      this.#module = engine.load(this.#saved, this.bytes) as WebAssembly.Module | undefined;
      this.isRefused = this.#module === undefined;
    }
    this.#module ??= new WebAssembly.Module(this.bytes);
    return this.#module;
  }

  /** What the engine has made of it by now, or for an earlier guest where this one had no use for it. */
  saved(engine: Engine | undefined): Uint8Array {
    if (this.#module === undefined || engine === undefined) return this.#saved;
    return engine.save(this.#module, this.functions) ?? NOTHING;
  }
}

/** How long a module's bytes are in an image, and those of the engine behind them. */
export interface SavedSizes {
  readonly bytes: number;
  readonly engine: number;
}

/** Modules one behind the other. */
export function packModules(
  modules: readonly ModuleCode[],
  engine: Engine | undefined,
): { sizes: SavedSizes[]; packed: Uint8Array<ArrayBuffer> } {
  const parts = modules.flatMap((module) => [module.bytes, module.saved(engine)]);
  const packed = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    packed.set(part, at);
    at += part.length;
  }
  const sizes = modules.map((_, index) => ({ bytes: parts[2 * index]!.length, engine: parts[2 * index + 1]!.length }));
  return { sizes, packed };
}

/** The module of these sizes that begins at `at`. */
export function unpackModule(packed: Uint8Array<ArrayBuffer>, at: number, { bytes, engine }: SavedSizes): ModuleCode {
  const end = at + bytes;
  return new ModuleCode(packed.subarray(at, end), { saved: packed.subarray(end, end + engine) });
}
