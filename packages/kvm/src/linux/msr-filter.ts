/** `struct kvm_msr_filter`, whose ranges point at bitmaps. */

import { addressOf } from "@lodge/linux";
import { KvmError } from "../errors.ts";
import { MSR_FILTER_RANGES, MsrFilter, MsrFilterFlag } from "../layout/vm.ts";
import type { MsrFilterRange } from "../vm.ts";

const ACCESS = {
  read: MsrFilterFlag.READ,
  write: MsrFilterFlag.WRITE,
  both: MsrFilterFlag.READ | MsrFilterFlag.WRITE,
} as const;

/** The structure and the bitmaps it points at, which must live as long as the request takes. */
export function encodeMsrFilter(ranges: readonly MsrFilterRange[], denyByDefault: boolean) {
  const bitmaps = ranges.map((range) => {
    if (range.allowed.length * 8 >= range.count && range.count > 0) return range.allowed.slice();
    throw new KvmError(
      "KVM_INVALID",
      `MSR range 0x${range.base.toString(16)}+${range.count}: it has at least one MSR, and a bit for each`,
    );
  });
  const filter = MsrFilter.encode({
    flags: denyByDefault ? MsrFilterFlag.DEFAULT_DENY : 0,
    ranges: Array.from({ length: MSR_FILTER_RANGES }, (_, index) => {
      const range = ranges[index];
      if (range === undefined) return { flags: 0, nmsrs: 0, base: 0, bitmap: 0 };
      return {
        flags: ACCESS[range.access],
        nmsrs: range.count,
        base: range.base,
        bitmap: addressOf(bitmaps[index]!),
      };
    }),
  });
  return { filter, bitmaps };
}
