/** Guest memory. */

import { KvmError } from "./errors.ts";

/**
 * Guest memory is one shared `WebAssembly.Memory`: every thread sees it, devices and compiled code address it alike, and
 * the kernel takes parts of it as memory slots. It may be posted to workers. (Declared by its members, because the name is
 * TypeScript's only together with the whole DOM, which a program that uses Lodge need not have.)
 */
export interface GuestMemory {
  readonly buffer: ArrayBuffer | SharedArrayBuffer;
  grow(deltaPages: number): number;
}

/** WebAssembly's page. */
const PAGE = 65536;

/** V8's limit for one memory. */
export const MAX_GUEST_MEMORY = 16 * 2 ** 30;

/**
 * What a 32-bit memory may grow by, where there is room: a hypervisor in software puts its vCPUs' state behind the
 * guest's memory. Addresses only; nothing is used until somebody grows it.
 */
const HEADROOM_PAGES = (512 * 2 ** 20) / PAGE;

/** Reserves guest memory. Pages cost nothing until touched. `sizeBytes` is a multiple of 64 KiB, up to 16 GiB. */
export function createGuestMemory(sizeBytes: number): GuestMemory {
  if (!Number.isInteger(sizeBytes) || sizeBytes <= 0 || sizeBytes % PAGE !== 0 || sizeBytes > MAX_GUEST_MEMORY) {
    throw new KvmError(
      "KVM_INVALID",
      `guest memory of ${sizeBytes} bytes: the size is a multiple of 64 KiB, from 64 KiB to 16 GiB`,
    );
  }
  const pages = sizeBytes / PAGE;
  // 32-bit memories stop at 4 GiB; 64-bit ones count their pages in bigints.
  const wide = pages > 65536;
  const maximum = wide ? BigInt(pages) : Math.min(pages + HEADROOM_PAGES, 65536);
  return new WebAssembly.Memory({
    initial: wide ? BigInt(pages) : pages,
    maximum,
    shared: true,
    ...(wide ? { address: "i64" } : {}),
  } as WebAssembly.MemoryDescriptor);
}
