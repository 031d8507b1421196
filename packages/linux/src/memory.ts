/** Maps of memory, and JavaScript's view of them: mmap(2), madvise(2), mprotect(2), memfd_create(2). */

import { SystemCall, trySyscall, trySyscall6 } from "./direct-syscall.ts";
import { check, hex, SystemError } from "./errors.ts";
import { koffi } from "./koffi.ts";
import { bind } from "./libc.ts";

/** asm-generic/mman-common.h: PROT_*. */
export const Protection = { NONE: 0, READ: 1, WRITE: 2, EXEC: 4 } as const;

/** asm-generic/mman-common.h and mman.h: MAP_*. */
export const MapFlag = {
  SHARED: 0x01,
  PRIVATE: 0x02,
  FIXED: 0x10,
  ANONYMOUS: 0x20,
  NORESERVE: 0x4000,
  POPULATE: 0x8000,
  HUGETLB: 0x40000,
  FIXED_NOREPLACE: 0x100000,
} as const;

/** asm-generic/mman-common.h: MADV_*. */
export const Advice = {
  WILLNEED: 3,
  DONTNEED: 4,
  FREE: 8,
  REMOVE: 9,
  DONTFORK: 10,
  MERGEABLE: 12,
  UNMERGEABLE: 13,
  HUGEPAGE: 14,
  NOHUGEPAGE: 15,
  DONTDUMP: 16,
  POPULATE_READ: 22,
  POPULATE_WRITE: 23,
} as const;

/** linux/fcntl.h: F_SEAL_*, what can no longer be done to a file in memory. */
export const Seal = { SEAL: 1, SHRINK: 2, GROW: 4, WRITE: 8 } as const;
export const ADD_SEALS = 1033;

/** linux/memfd.h: MFD_*. */
export const MemfdFlag = { CLOEXEC: 1, ALLOW_SEALING: 2, HUGETLB: 4 } as const;

const c = {
  mprotect: bind<(address: number, length: number, prot: number) => number>("int mprotect(intptr_t, size_t, int)"),
  memfdCreate: bind<(name: string, flags: number) => number>("int memfd_create(const char *, unsigned int)"),
  fcntl: bind<(fd: number, command: number, argument: number) => number>("int fcntl(int, int, intptr_t)"),
};

/** Gives the host back what the C library keeps of memory that was freed, in all threads: pages of V8's compilers, mostly. */
export function trimHeap(): void {
  heap ??= bindTrim();
  heap(0);
}
let heap: ((pad: number) => number) | undefined;

function bindTrim(): (pad: number) => number {
  try {
    return bind<(pad: number) => number>("int malloc_trim(size_t)");
  } catch {
    // Only glibc has it.
    return () => 0;
  }
}

/** What {@link mmap} maps. Lengths and offsets are bytes. */
export interface MapRequest {
  length: number;
  protection: number;
  flags: number;
  /** Wanted address; it decides only with `MapFlag.FIXED`. Default 0: anywhere. */
  address?: number;
  /** Default -1, for anonymous memory. */
  fd?: number;
  offset?: number;
}

/** Maps memory and returns its address. The caller unmaps it. */
export function mmap({ length, protection, flags, address = 0, fd = -1, offset = 0 }: MapRequest): number {
  const result = trySyscall6(SystemCall.mmap, address, length, protection, flags, fd, offset);
  if (result >= 0) return result;
  // Words only for a refusal: they take as long as the call.
  throw new SystemError(-result, "mmap", fd >= 0 ? `fd ${fd}, ${hex(length)} bytes` : `${hex(length)} bytes`);
}

export function munmap(address: number, length: number): void {
  const result = trySyscall(SystemCall.munmap, address, length);
  if (result < 0) throw new SystemError(-result, "munmap", range(address, length));
}

export function madvise(address: number, length: number, advice: number): void {
  const result = trySyscall(SystemCall.madvise, address, length, advice);
  if (result < 0) throw new SystemError(-result, "madvise", `${range(address, length)}, advice ${advice}`);
}

export function mprotect(address: number, length: number, protection: number): void {
  check(c.mprotect(address, length, protection), "mprotect", range(address, length));
}

/** An anonymous file in memory; returns its descriptor. */
export function memfdCreate(name: string, flags: number = MemfdFlag.CLOEXEC): number {
  return check(c.memfdCreate(name, flags), "memfd_create", name);
}

/** Forbids for good what {@link Seal} says, to everybody who has the file; it was made with `MemfdFlag.ALLOW_SEALING`. */
export function addSeals(fd: number, seals: number): void {
  check(c.fcntl(fd, ADD_SEALS, seals), "fcntl", `fd ${fd}, seals ${hex(seals)}`);
}

/** The address of a buffer's first byte. Buffers of JavaScript's own do not move, so it holds while the buffer lives. */
export function addressOf(buffer: ArrayBufferLike | ArrayBufferView): number {
  return Number(koffi.address(buffer));
}

/** Memory at an address as a buffer, without a copy. Nothing keeps it mapped: prefer {@link Mapping}. */
export function viewMemory(address: number, length: number): ArrayBuffer {
  return koffi.view(BigInt(address), length);
}

/**
 * A mapping with its view, unmapped by {@link Mapping.close}. Closing detaches `buffer` first, so that a view kept by
 * mistake throws instead of touching memory that is no longer there.
 */
export class Mapping implements Disposable {
  readonly address: number;
  readonly length: number;
  readonly buffer: ArrayBuffer;
  #open = true;

  constructor(request: MapRequest) {
    this.address = mmap(request);
    this.length = request.length;
    try {
      this.buffer = viewMemory(this.address, this.length);
    } catch (cause) {
      munmap(this.address, this.length);
      throw cause;
    }
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.buffer.transfer();
    munmap(this.address, this.length);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function range(address: number, length: number): string {
  return `${hex(address)}-${hex(address + length)}`;
}
