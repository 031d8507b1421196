/** Guest memory. */

import { KvmError } from "./errors.ts";
import type { HypervisorKind } from "./hypervisor.ts";

/**
 * Guest memory, as its hypervisor makes it: the first `sizeBytes` bytes of one shared buffer that every thread sees, and of
 * which machines take parts as memory slots. What lies behind them is the hypervisor's. It may be posted to workers.
 */
export interface GuestMemory {
  readonly kind: HypervisorKind;
  readonly buffer: SharedArrayBuffer;
  readonly sizeBytes: number;
  /** In software: the memory of compiled code, which grows behind the guest's. */
  readonly wasm?: { readonly buffer: ArrayBufferLike };
}

/** WebAssembly's page, in which all sizes are counted. */
const UNIT = 65536;

/** Far from where V8 refuses to reserve addresses. */
const MAX_MEMORY_BYTES = 512 * 2 ** 30;

/** Refuses a size that no guest memory has. A hypervisor may have a lower limit of its own. */
export function checkMemorySize(sizeBytes: number): void {
  if (Number.isInteger(sizeBytes) && sizeBytes > 0 && sizeBytes % UNIT === 0 && sizeBytes <= MAX_MEMORY_BYTES) return;
  throw new KvmError(
    "KVM_INVALID",
    `guest memory of ${sizeBytes} bytes: the size is a multiple of 64 KiB, from 64 KiB to ${MAX_MEMORY_BYTES / 2 ** 30} GiB`,
  );
}
