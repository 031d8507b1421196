/** Guest memory for machines in software: a WebAssembly memory, which compiled code addresses. */

import { checkMemorySize, type GuestMemory, KvmError } from "@lodge/kvm";

export interface SoftMemory extends GuestMemory {
  readonly kind: "soft";
  /**
   * The whole memory, a `WebAssembly.Memory`: it grows behind the guest's by what the vCPUs need. (Declared by its members,
   * because the name is TypeScript's only together with the whole DOM, which a program that uses Lodge need not have.)
   */
  readonly wasm: { readonly buffer: ArrayBufferLike; grow(pages: number): number };
}

/** WebAssembly's page. */
export const WASM_PAGE = 65536;

/** What 32 bits reach without room for the vCPUs' own state. */
const MAX_MEMORY_BYTES = 3.5 * 2 ** 30;

/** What 32 bits reach. */
const MAX_PAGES = 2 ** 32 / WASM_PAGE;

/** What a memory may grow by, where there is room. Addresses only; nothing is used until somebody grows it. */
const HEADROOM_PAGES = 2 ** 31 / WASM_PAGE;

/** How many vCPUs there is room for behind a guest's memory. */
export const MOST_VCPUS = 16;

const headroomPages = (sizeBytes: number) => Math.min(HEADROOM_PAGES, MAX_PAGES - sizeBytes / WASM_PAGE);

/**
 * Bytes of a vCPU's area behind the guest's memory: its state, jump cache and records. With all of them there is room for the bits of
 * pages that hold code. The larger, the more code a guest may run until all of it is forgotten: 32 MiB behind the largest guest
 * are 75,000 blocks, which is a kernel that boots and a small program.
 */
export function areaBytes({ sizeBytes }: SoftMemory): number {
  return (Math.floor(headroomPages(sizeBytes) / MOST_VCPUS) - 1) * WASM_PAGE;
}

export function createSoftMemory(sizeBytes: number): SoftMemory {
  checkMemorySize(sizeBytes);
  if (sizeBytes > MAX_MEMORY_BYTES) {
    const gib = (bytes: number) => `${Number((bytes / 2 ** 30).toFixed(2))} GiB`;
    throw new KvmError(
      "KVM_INVALID",
      `guest memory of ${gib(sizeBytes)}: a software machine has at most ${gib(MAX_MEMORY_BYTES)}, since compiled code ` +
        "addresses memory with 32 bits, and a part of them is the vCPUs'",
    );
  }
  const initial = sizeBytes / WASM_PAGE;
  const maximum = initial + headroomPages(sizeBytes);
  const wasm = new WebAssembly.Memory({ initial, maximum, shared: true });
  return { kind: "soft", buffer: wasm.buffer as unknown as SharedArrayBuffer, sizeBytes, wasm };
}

/** Takes pages of 64 KiB behind the guest's memory; returns the first one's number. */
export function growMemory({ wasm }: SoftMemory, pages: number): number {
  try {
    return wasm.grow(pages);
  } catch (cause) {
    throw new KvmError(
      "KVM_REQUEST_FAILED",
      "no room for another vCPU behind the guest's memory: software machines have at most 3.5 GiB and 16 vCPUs",
      { cause },
    );
  }
}
