/** How WebAssembly finds an entry of the lookaside buffers: `Tlb` of cpu/layout.ts. */

import { Tlb } from "../cpu/layout.ts";
import type { I32, I64 } from "../wasm/expr.ts";
import { c32, i32 } from "../wasm/ops.ts";

/** Where the entry for an address is in its table. */
export function entryOffset(linear: I64): I32 {
  return i32.and(i32.shr_u(i32.wrap(linear), c32(8)), c32((Tlb.entries - 1) * Tlb.entrySize));
}
