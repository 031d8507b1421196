/** A vCPU's last exit as a record: to compare, to show, and to post to another thread. */

import { ExitReason, exitReasonName, type RunPage } from "../src/index.ts";

export type Exit =
  | { reason: typeof ExitReason.IO; out: boolean; port: number; size: number; values: number[] }
  | { reason: typeof ExitReason.MMIO; write: boolean; address: number; length: number; value: bigint }
  | { reason: Exclude<ExitReason, typeof ExitReason.IO | typeof ExitReason.MMIO> };

/** Values are those that the guest writes; a read has none (`values` counts its zeros, `value` is 0). */
export function readExit(reason: ExitReason, page: RunPage): Exit {
  switch (reason) {
    case ExitReason.IO: {
      const { isOut, port, size, count } = page.io;
      const values = Array.from({ length: count }, (_, index) => (isOut ? page.io.value(index) : 0));
      return { reason, out: isOut, port, size, values };
    }
    case ExitReason.MMIO: {
      const { isWrite, address, length } = page.mmio;
      const high = length === 8 ? BigInt(page.mmio.high) << 32n : 0n;
      return { reason, write: isWrite, address, length, value: isWrite ? BigInt(page.mmio.low) | high : 0n };
    }
    default:
      return { reason };
  }
}

export function showExit(exit: Exit): string {
  const name = exitReasonName(exit.reason);
  switch (exit.reason) {
    case ExitReason.IO: {
      const values = exit.values.map((value) => `0x${value.toString(16)}`).join(" ");
      const what = exit.out ? `out ${values}` : `in, ${exit.values.length} times`;
      return `${name} (${what}, port 0x${exit.port.toString(16)}, ${exit.size} bytes each)`;
    }
    case ExitReason.MMIO: {
      const what = exit.write ? `write of 0x${exit.value.toString(16)}` : "read";
      return `${name} (${what}, ${exit.length} bytes at 0x${exit.address.toString(16)})`;
    }
    default:
      return name;
  }
}
