/** What is known of guests' code beyond their end: a service of the host's, as this package has no files. */

import type { CpuState } from "../cpu/state.ts";
import type { MemoryMap } from "../mmu/memory-map.ts";
import { isFused } from "../wasm/fused.ts";

/** What the host's engine makes of modules, as bytes of its own. What is asked of it here throws nothing. */
export interface Engine {
  /** Undefined where none of the functions was optimized. `module`: a `WebAssembly.Module`; `functions`: some of an instance's. */
  save(module: object, functions: Iterable<unknown>): Uint8Array | undefined;
  /** Undefined where it is not of the engine as it is now, or of this processor. */
  load(saved: Uint8Array<ArrayBuffer>, bytes: Uint8Array<ArrayBuffer>): object | undefined;
}

/**
 * Keeps bytes by key. What it gives back is, bit by bit, what was kept under this key by the same version of this package;
 * it may forget anything at any time, and throws nothing.
 */
export interface CodeStore {
  get(key: string): Uint8Array<ArrayBuffer> | undefined;
  keep(key: string, bytes: Uint8Array): void;
  drop(key: string): void;
  /** Where there is one, images have what it made of their modules. */
  readonly engine?: Engine | undefined;
}

/** Of the code where a guest begins, so much tells it from other guests; whether it really is the same, each block is asked. */
const TOLD_BY = 2 ** 16;

/** What translations depend on besides the code itself, and a guess at which code that will be. */
export function codeKey(state: CpuState, features: ReadonlySet<string>, rip: bigint, map: MemoryMap): string {
  const { view } = state;
  const start = Number(rip & 0xffffffffn);
  let hash = 0;
  if (map.lookup(start)) {
    const { offset } = map;
    const end = Math.min(state.base, offset + TOLD_BY);
    for (let at = offset; at + 4 <= end; at += 4) hash = (Math.imul(hash, 0x9e3779b1) + view.getInt32(at, true)) | 0;
  }
  return [state.base, view.byteLength, [...features].sort(), isFused(), rip, hash >>> 0].join();
}
