/** MSRs in lists. The kernel stops at the first that it refuses and says how many it took. */

import { KvmError } from "../errors.ts";
import { MSRS_HEADER, MsrEntry } from "../layout/registers.ts";
import { request } from "./request.ts";

/** KVM_MAX_MSR_ENTRIES of the kernel. */
const MAX_ENTRIES = 256;

export function readMsrs(fd: number, indices: readonly number[]): MsrEntry[] {
  const entries = indices.map((index) => ({ index, data: 0n }));
  return chunks(entries).flatMap((chunk) => {
    const view = encode(chunk);
    const count = request(fd, "KVM_GET_MSRS", view);
    if (count < chunk.length) {
      throw new KvmError(
        "KVM_MSR_REFUSED",
        `MSR ${name(chunk[count]!)} does not exist on this host or for this CPUID: leave it out`,
      );
    }
    return chunk.map((_, index) => MsrEntry.read(view, MSRS_HEADER + index * MsrEntry.size));
  });
}

export function writeMsrs(fd: number, entries: readonly MsrEntry[]): void {
  for (const chunk of chunks(entries)) {
    const count = request(fd, "KVM_SET_MSRS", encode(chunk));
    if (count === chunk.length) continue;
    const { data } = chunk[count]!;
    throw new KvmError(
      "KVM_MSR_REFUSED",
      `MSR ${name(chunk[count]!)} does not take 0x${data.toString(16)} on this host or for this CPUID: leave it out, or mend the value`,
    );
  }
}

function encode(entries: readonly MsrEntry[]): DataView {
  const view = new DataView(new ArrayBuffer(MSRS_HEADER + entries.length * MsrEntry.size));
  view.setUint32(0, entries.length, true);
  entries.forEach((entry, index) => {
    MsrEntry.write(view, MSRS_HEADER + index * MsrEntry.size, entry);
  });
  return view;
}

function chunks<T>(items: readonly T[]): T[][] {
  return Array.from({ length: Math.ceil(items.length / MAX_ENTRIES) }, (_, index) =>
    items.slice(index * MAX_ENTRIES, (index + 1) * MAX_ENTRIES),
  );
}

function name(entry: MsrEntry): string {
  return `0x${entry.index.toString(16)}`;
}
