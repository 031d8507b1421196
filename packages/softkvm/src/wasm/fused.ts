/**
 * Whether the host's `relaxed_madd` rounds once. The relaxed SIMD proposal leaves that to the host, which then has to do
 * it the same way each time; processors with fused instructions (Intel and AMD since 2013, all of ARM64) do.
 */

import { ModuleBuilder } from "./module.ts";
import { c32, c64, i32, i64 } from "./ops.ts";
import { f32x4, f64x2, i32x4, i64x2, splat } from "./simd.ts";

let known: boolean | undefined;

/** Of singles and doubles. False, too, where the host has no relaxed SIMD. */
export function isFused(): boolean {
  known ??= probe();
  return known;
}

/** `(1 + e) * (1 - e) - 1` is `-e * e`, unless the product was rounded to 1 before. */
function probe(): boolean {
  const module = new ModuleBuilder();
  const { index, code } = module.function([], ["i32"]);
  const singles = f32x4.relaxed_madd(splat(4, 0x3f800800), splat(4, 0x3f7ff000), splat(4, 0xbf800000));
  const doubles = f64x2.relaxed_madd(
    splat(8, 0x3ff0000000000001n),
    splat(8, 0x3feffffffffffffen),
    splat(8, 0xbff0000000000000n),
  );
  const isSingle = i32.ne(i32x4.extract_lane(singles, 0), c32(0));
  code.return(i32.and(isSingle, i64.ne(i64x2.extract_lane(doubles, 0), c64(0))));
  code.unreachable();
  module.exportFunction("probe", index);
  const bytes = module.encode();
  if (!WebAssembly.validate(bytes)) return false;
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(bytes));
  return (exports.probe as () => number)() === 1;
}
