/**
 * Where code of ring 3 lies: a walk in WebAssembly for fetches, by 4-level paging, through tables in memory that is nothing
 * special and have been walked before. It changes nothing, and leaves all else to `Access.fetch`; code-walk.test.ts
 * compares the two.
 */

import { State } from "../cpu/layout.ts";
import type { I64, Local } from "../wasm/expr.ts";
import type { ModuleBuilder } from "../wasm/module.ts";
import { c32, c64, call, i32, i64 } from "../wasm/ops.ts";
import { efer, Pte } from "./paging.ts";

/** The address in an entry: bits 12 to 51. */
const ADDRESS = 0xf_ffff_ffff_f000n;
const NO_EXECUTE = 1n << 63n;
const PAGE_2M = 21;
const WANTED = Pte.P | Pte.US | Pte.A;

/** Adds the function (linear address) → its place in linear memory, or -1; `memory`: that of guest physical addresses. */
export function addCodeWalk(module: ModuleBuilder, base: number, memory: number): number {
  const { index, code } = module.function(["i64"], ["i32"]);
  const linear = code.parameters[0] as Local<"i64">;
  const at = (offset: number) => c32(base + offset);
  const isLong = i32.and(i32.load(at(State.efer)), c32(efer.LMA));
  const isCanonical = i64.eq(i64.shr_s(i64.shl(linear, c64(16)), c64(16)), linear);
  code.if(i32.eqz(i32.and(i32.ne(isLong, c32(0)), isCanonical)), () => code.return(c32(-1)));
  const forbidden = code.let(i64.or(i64.load(at(State.reservedBits)), c64(NO_EXECUTE)));
  const table = code.let(i64.and(i64.load(at(State.cr3)), c64(ADDRESS)));
  const end = (page: I64, shift: number) => {
    const within = i64.and(linear, c64(2 ** shift - 1));
    code.return(call("i32", memory, i64.or(i64.and(page, c64(-(2 ** shift))), within)));
  };
  for (const level of [39, 30, PAGE_2M, 12]) {
    const offset = i64.and(i64.shr_u(linear, c64(level - 3)), c64(0xff8));
    const place = code.let(call("i32", memory, i64.add(table, offset)));
    code.if(i32.eq(place, c32(-1)), () => code.return(c32(-1)));
    const entry = code.let(i64.load(place));
    const low = code.let(i32.wrap(entry));
    code.if(i32.ne(i32.and(low, c32(WANTED)), c32(WANTED)), () => code.return(c32(-1)));
    code.if(i64.ne(i64.and(entry, forbidden), c64(0)), () => code.return(c32(-1)));
    code.set(table, i64.and(entry, c64(ADDRESS)));
    if (level !== 39 && level !== 12) {
      code.if(i32.and(low, c32(Pte.PS)), () => {
        if (level !== PAGE_2M) code.return(c32(-1));
        code.if(i32.and(low, c32(2 ** PAGE_2M - 2 ** 13)), () => code.return(c32(-1)));
        end(table, PAGE_2M);
      });
    } else if (level === 39) code.if(i32.and(low, c32(Pte.PS)), () => code.return(c32(-1)));
  }
  end(table, 12);
  code.unreachable();
  return index;
}
