/**
 * What a region checks the results of floating point with, in locals: constants that would else be made anew at every check,
 * and in their masks whether MXCSR allows results that are inexact.
 */

import { State } from "../cpu/layout.ts";
import { type FloatGuard, guardConstants } from "../semantics/sse/checked.ts";
import { type FloatSize, QUIET } from "../semantics/sse/lanes.ts";
import type { Code } from "../wasm/code.ts";
import type { Local } from "../wasm/expr.ts";
import { c32, i32 } from "../wasm/ops.ts";
import { i32x4, v128 } from "../wasm/simd.ts";

interface Locals extends FloatGuard {
  readonly bias: Local<"v128">;
  readonly mask: Local<"v128">;
  readonly scalarMask: Local<"i32">;
}

export class FloatGuards {
  readonly #code: Code;
  readonly #base: number;
  readonly #locals: { readonly [size in FloatSize]: Locals };
  readonly #quiet: Local<"i32">;
  readonly #used = new Set<FloatSize>();

  constructor(code: Code, base: number) {
    this.#code = code;
    this.#base = base;
    const locals = () => ({
      bias: code.local("v128"),
      mask: code.local("v128"),
      scalarMask: code.local("i32"),
    });
    this.#locals = { 4: locals(), 8: locals() };
    this.#quiet = code.local("i32");
  }

  of(size: FloatSize): FloatGuard {
    this.#used.add(size);
    return this.#locals[size];
  }

  /** On the way into the region, whose code is written already. */
  load(): void {
    if (this.#used.size === 0) return;
    for (const size of this.#used) this.#code.set(this.#locals[size].bias, guardConstants[size].bias);
    this.#setMasks([...this.#used]);
  }

  /** After a change of MXCSR. */
  renew(): void {
    this.#setMasks([4, 8]);
  }

  #setMasks(sizes: readonly FloatSize[]): void {
    const code = this.#code;
    const bits = QUIET.PE | QUIET.PM | QUIET.RC;
    const isQuiet = i32.eq(i32.and(i32.load(c32(this.#base + State.mxcsr)), c32(bits)), c32(QUIET.PE | QUIET.PM));
    code.set(this.#quiet, i32.sub(c32(0), isQuiet));
    for (const size of sizes) {
      const { mask, scalarMask } = this.#locals[size];
      code.set(mask, v128.and(guardConstants[size].mask, i32x4.splat(this.#quiet)));
      code.set(scalarMask, i32.and(this.#quiet, c32(guardConstants[size].scalarMask)));
    }
  }
}
